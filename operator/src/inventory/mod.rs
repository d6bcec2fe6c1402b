//! Which bytes are where: a fold of facts (reports, nodes, Datasets), without I/O or clock.
