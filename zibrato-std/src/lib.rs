//! Under construction.

pub mod socket;
