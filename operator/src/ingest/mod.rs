//! The agents' end of the wire: reports in, instructions out, over mutual TLS.
