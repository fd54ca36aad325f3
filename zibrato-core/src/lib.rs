#![no_std]
pub mod kind;
pub mod legacy;
pub mod level;
pub mod limits;
pub mod text;
#[cfg(any(test, feature = "std"))]
extern crate std;
