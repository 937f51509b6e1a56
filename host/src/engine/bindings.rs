//! Rust types and functions for the contract in `wit/`, generated. They do not leave this module's siblings: everything
//! that the engine gives or takes is converted, so that the contract can change without changing the host.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
});
