//! `bench overhead`
