//! Which nodes should hold which chunks, and why: a function of the inventory, without I/O or clock.
