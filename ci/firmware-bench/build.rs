//! Puts the memory of the target's QEMU machine where the linker looks.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=memory");
    let target = env::var("TARGET")?;
    let machine = match &target {
        target if target.starts_with("riscv32") => "virt",
        target if target.starts_with("thumbv6m") => "microbit",
        _ => "mps2-an386",
    };
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::copy(format!("memory/{machine}.x"), out.join("memory.x"))?;
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=--nmagic");
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    Ok(())
}
