"""What is wrong with a machine, and the command that mends it: :mod:`.facts` are gathered by :mod:`.gather`, judged by
:mod:`.checks` without looking at the machine, and told by :mod:`.report`."""
