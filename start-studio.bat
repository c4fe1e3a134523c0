@echo off
rem Make a virtual environment beside this file the first time, then open the studio. Arguments are the studio's.
setlocal
pushd "%~dp0" || exit /b 1
set PYTHONUTF8=1
set "FITS=import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
.venv\Scripts\python.exe -c "%FITS%" >nul 2>nul && goto install
set "MAKER="
for %%V in (3.12 3.13 3.11) do if not defined MAKER py -%%V -c "%FITS%" >nul 2>nul && set "MAKER=py -%%V"
if not defined MAKER python -c "%FITS%" >nul 2>nul && set "MAKER=python"
if not defined MAKER goto nopython
%MAKER% -m venv --clear .venv || goto failed
:install
if exist .venv\Scripts\loratools.exe goto start
set "INDEX="
for /f %%I in ('.venv\Scripts\python.exe -m loratools.doctor') do set "INDEX=%%I"
if not defined INDEX set "INDEX=cpu"
.venv\Scripts\python.exe -m pip install torch --index-url https://download.pytorch.org/whl/%INDEX% || goto failed
.venv\Scripts\python.exe -m pip install -e ".[studio]" || goto failed
.venv\Scripts\loratools.exe doctor
:start
.venv\Scripts\loratools.exe studio %*
if errorlevel 1 pause
exit /b
:nopython
echo Python 3.11 to 3.13 is needed, and none was found: winget install Python.Python.3.12
pause
exit /b 1
:failed
echo Installing did not work; the lines above say why. Start this file again to go on.
pause
exit /b 1
