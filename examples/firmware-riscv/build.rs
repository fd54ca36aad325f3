//! Puts memory.x where the linker looks, and names the linker's scripts.

fn main() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rustc-link-search={manifest}");
    println!("cargo:rerun-if-changed=memory.x");
    for argument in ["-Tlink.x"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
