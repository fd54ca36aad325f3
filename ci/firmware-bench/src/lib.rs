//! What the programs of this folder share.
#![no_std]

// For their critical sections.
#[cfg(target_arch = "arm")]
use cortex_m as _;
#[cfg(target_arch = "arm")]
pub use cortex_m_rt::entry;
use panic_halt as _;
#[cfg(target_arch = "riscv32")]
use riscv as _;
#[cfg(target_arch = "riscv32")]
pub use riscv_rt::entry;

/// The clock of the benches: as many instructions a reading as on a real board.
#[cfg(target_arch = "arm")]
pub use zibrato_core::device::clock::Dwt as Cycles;
#[cfg(target_arch = "riscv32")]
pub use zibrato_core::device::clock::Mcycle as Cycles;
