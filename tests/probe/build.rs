//! Makes one plugin of two packages.
//!
//! A workspace has each package name once, and a plugin has its package's name: so both versions compile as `probe`.

fn main() {
    let version = std::env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets it");
    println!("cargo::rustc-env=CARGO_PKG_NAME=probe");
    println!("cargo::rustc-check-cfg=cfg(generation, values(\"1\", \"2\"))");
    println!("cargo::rustc-cfg=generation=\"{version}\"");
    println!("cargo::rerun-if-changed=../build.rs");
}
