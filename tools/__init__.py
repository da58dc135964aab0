"""The command line of ibkd_mm, installed as `ibkd_tools`: it imports nothing heavy until a command runs."""
