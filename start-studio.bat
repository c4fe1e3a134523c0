@echo off
rem Make a virtual environment beside this file the first time, then open the studio. Arguments are the studio's.
setlocal
cd /d "%~dp0"
set PYTHONUTF8=1
if exist .venv\Scripts\loratools.exe goto start
py -3.12 -m venv .venv 2>nul || py -3 -m venv .venv || python -m venv .venv || goto failed
set "INDEX=cpu"
where nvidia-smi >nul 2>nul || goto torch
for /f "tokens=1 delims=." %%D in ('nvidia-smi --query-gpu^=driver_version --format^=csv^,noheader') do set "DRIVER=%%D"
set "INDEX=cu126"
if %DRIVER% GEQ 580 set "INDEX=cu130"
:torch
.venv\Scripts\python -m pip install torch --index-url https://download.pytorch.org/whl/%INDEX% || goto failed
.venv\Scripts\python -m pip install -e ".[studio]" || goto failed
.venv\Scripts\loratools doctor
:start
.venv\Scripts\loratools studio %*
if errorlevel 1 pause
exit /b
:failed
echo Python 3.11 to 3.13 is needed: winget install Python.Python.3.12
pause
exit /b 1
