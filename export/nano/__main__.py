from export.nano.cli import main

main()
