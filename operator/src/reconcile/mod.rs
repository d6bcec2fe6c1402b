//! Objects made as Datasets and operations ask: volumes, claims, statuses.
