"""The machine that fastent runs on: memory, threads, progress, interrupts, and how numbers are printed."""
