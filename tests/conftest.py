import signal

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job: its children would ignore ^C, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
