//! What is refused when it is loaded, and what its error says; machine code in the cache.
//!
//! The ways in which a description misbehaves come from the plugin's sources. One without a verdict does not compile.

use std::{error::Error, fs};

use palfrey_host::{
    engine::{CompileLimits, Engine, EngineConfig, EngineError, LoadError},
    task::Digest,
};

use super::guests::{changed, describing, engine, plugin, wasm};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The message of the error, with its sources.
fn refused(wasm: &[u8]) -> (LoadError, String) {
    let error = engine(1).load(wasm).unwrap_err();
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = format!("{message}: {error}");
        source = error.source();
    }
    (error, message)
}

macro_rules! check {
    ($wasm:expr, $pattern:pat, $($expect:expr),+) => {
        let (error, message) = refused($wasm);
        assert!(matches!(error, $pattern), "{error:?}");
        $(assert!(message.contains($expect), "{message}");)+
    };
}

#[test]
fn a_plugin_is_loaded_with_all_that_is_known_of_it() {
    let (plugin, wasm) = (plugin(), wasm());
    assert_eq!(plugin.digest(), Digest::of(&wasm));
    assert_eq!(plugin.size(), wasm.len() as u64);
    assert_eq!(plugin.description().name, "test-guests");
    let operations = plugin.description().operations.iter().map(|operation| operation.name.clone());
    assert_eq!(
        operations.collect::<Vec<_>>(),
        super::verdicts::all().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    assert!(plugin.imports().iter().any(|import| import == "palfrey:plugin/context@0.1.0"));
}

#[test]
fn what_is_not_webassembly_is_refused() {
    check!(b"#!/bin/sh", LoadError::NotWasm, "does not begin with `\\0asm`", "deploy the `.wasm` file");
    check!(b"", LoadError::NotWasm, "not WebAssembly");
}

#[test]
fn a_core_module_is_refused_and_the_error_says_how_to_build_a_component() {
    check!(b"\0asm\x01\0\0\0", LoadError::CoreModule, "`wasm32-wasip2`", "`wasm-tools component new`");
}

#[test]
fn a_component_that_is_cut_off_is_refused() {
    let wasm = wasm();
    check!(&wasm[..wasm.len() / 2], LoadError::Malformed { .. }, "malformed or cut off");
    check!(b"\0asm\x0f\0\x01\0", LoadError::Malformed { .. }, "unknown version of the binary format");
}

#[test]
fn a_component_of_another_world_is_refused() {
    check!(COMPONENT, LoadError::NoOperations { .. }, "`palfrey:plugin/operations@0.1.0`", "it exports nothing");
    let other = changed(wasm(), "palfrey:plugin/operations", "palfrey:plugin/operatives");
    check!(&other, LoadError::NoOperations { .. }, "it exports `palfrey:plugin/operatives@0.1.0`");
}

#[test]
fn another_version_of_the_contract_is_refused_and_the_error_says_who_is_behind() {
    let version = |version: &str| {
        let mut other = wasm();
        for interface in ["operations", "context", "types"] {
            let name = |version: &str| format!("palfrey:plugin/{interface}@{version}");
            other = changed(other, &name("0.1.0"), &name(version));
        }
        other
    };
    let newer = version("0.2.0");
    check!(
        &newer,
        LoadError::ContractVersion { newer: true, .. },
        "operations@0.2.0`",
        "speaks `palfrey",
        "update the w"
    );
    let older = version("0.0.9");
    check!(&older, LoadError::ContractVersion { newer: false, .. }, "operations@0.0.9`", "again with a newer SDK");
    assert!(engine(1).load(&version("0.1.7")).is_ok());
}

#[test]
fn imports_that_are_not_granted_are_all_named() {
    let other = changed(wasm(), "wasi:cli/environment@0.2", "acme:gpu/environment@0.2");
    let other = changed(other, "wasi:clocks/wall-clock@0.2", "wasi:clocks/wall-clock@0.3");
    check!(
        &other,
        LoadError::ImportsNotGranted { .. },
        "`acme:gpu/environment@0.2",
        "`wasi:clocks/wall-clock@0.3",
        "they may import `palfrey:plugin/context@0.1.0` and the command-line subset of WASI 0.2"
    );
}

#[test]
fn a_function_that_the_contract_does_not_have_is_named() {
    let other = changed(wasm(), "cancelled", "canceller");
    check!(&other, LoadError::Incompatible { .. }, "canceller");
}

#[test]
fn a_component_over_the_limit_is_refused_with_both_sizes() {
    let wasm = wasm();
    let compile_limits = CompileLimits { component: 1 << 10, ..CompileLimits::default() };
    let config = EngineConfig { compile_limits, ..EngineConfig::default() };
    let error = Engine::new(&config).unwrap().load(&wasm).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { size, limit: 1024 } if size == wasm.len() as u64));
    assert!(error.to_string().contains("at most 1.0 KiB are allowed: strip it"), "{error}");
}

#[test]
fn a_component_with_more_memory_than_there_is_room_for_is_refused() {
    // A core module whose memory begins with 65 536 pages, in a component.
    let module = b"\0asm\x01\0\0\0\x05\x05\x01\0\x80\x80\x04";
    let component = [COMPONENT, &[1, module.len() as u8], module].concat();
    check!(
        &component,
        LoadError::TooDemanding { .. },
        "does not fit into the sandbox",
        "4294967296 which exceeds the limit"
    );
}

/// What becomes of a component that misbehaves when it describes itself, by the name of its mode.
mod verdict {
    use super::*;

    fn describes_itself(mode: &str) {
        assert_eq!(engine(1).load(&describing(mode)).unwrap().description().name, "test-guests");
    }

    pub(super) fn normal() {
        describes_itself("normal");
    }
    pub(super) fn kebab() {
        check!(&describing("kebab"), LoadError::Description(_), "the operation's name \"Not_Kebab\"");
    }
    pub(super) fn twice() {
        check!(&describing("twice"), LoadError::Description(_), "two operations have the name `echo`");
    }
    pub(super) fn version() {
        check!(&describing("version"), LoadError::Description(_), "version \"1\" is not a semantic version");
    }
    pub(super) fn nothing() {
        check!(&describing("nothing"), LoadError::Description(_), "no operations");
    }
    pub(super) fn huge() {
        check!(&describing("huge"), LoadError::Description(_), "has 1025 bytes, and at most 1024");
    }
    pub(super) fn endless() {
        check!(&describing("endless"), LoadError::Describe(_), "the description is too large");
    }
    pub(super) fn meganam() {
        let (name, rule) = ("the operation's name \"xxx", "is not in kebab-case");
        check!(&describing("meganam"), LoadError::Description(_), name, rule);
    }
    pub(super) fn many() {
        check!(&describing("many"), LoadError::Description(_), "has 10000 operations, and at most 1024");
    }
    /// It would differ from call to call in an ordinary process.
    pub(super) fn differ() {
        let wasm = describing("differ");
        let describe = || engine(1).load(&wasm).unwrap().description().clone();
        assert_eq!(describe(), describe());
        assert_ne!(describe().version.to_string(), "0.1.0");
    }
    /// What it logs is cut short.
    pub(super) fn flood() {
        describes_itself("flood");
    }
    pub(super) fn exit() {
        check!(&describing("exit"), LoadError::Describe(_), "could not describe itself", "ended its process");
    }
    pub(super) fn panic() {
        check!(&describing("panic"), LoadError::Describe(_), "could not describe itself", "trapped");
    }
    pub(super) fn spin() {
        let (what, why) = ("could not describe itself", "ran longer than the limit of 5s");
        check!(&describing("spin"), LoadError::Describe(_), what, why);
    }
}

macro_rules! tests {
    ($($name:ident)*) => {
        mod a_component_that_describes_itself_as {
            $(
                #[test]
                fn $name() {
                    super::verdict::$name();
                }
            )*
        }
    };
}
include!("../../../../tests/guests/src/modes.rs");
for_each_mode!(tests);

fn engine_in(folder: &std::path::Path) -> Result<Engine, EngineError> {
    Engine::new(&EngineConfig { cache_dir: Some(folder.to_owned()), ..EngineConfig::default() })
}

/// The files of a cache.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder.join("machine-code")).unwrap().map(|file| file.unwrap().path()).collect()
}

#[test]
fn machine_code_is_kept_for_this_user_alone_and_used_again() {
    let folder = tempfile::tempdir().unwrap();
    engine_in(folder.path()).unwrap().load(&wasm()).unwrap();
    let files_before = files(folder.path());
    let [file] = &files_before[..] else { panic!("{files_before:?}") };
    let written = fs::metadata(file).unwrap().modified().unwrap();
    engine_in(folder.path()).unwrap().load(&wasm()).unwrap();
    assert_eq!(files(folder.path()), files_before);
    assert_eq!(fs::metadata(file).unwrap().modified().unwrap(), written);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file), mode(file.parent().unwrap())), (0o600, 0o700));
    }
}

#[test]
fn damaged_machine_code_is_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    let load = || engine_in(folder.path()).unwrap().load(&wasm()).unwrap();
    load();
    let file = files(folder.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..7], b"", &flipped] {
        fs::write(&file, damaged).unwrap();
        assert_eq!(load().description().name, "test-guests");
        assert!(fs::read(&file).unwrap() == whole, "the file is as it was");
    }
}

#[test]
fn machine_code_is_refused_as_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    engine_in(folder.path()).unwrap().load(&wasm()).unwrap();
    let file = fs::read(&files(folder.path())[0]).unwrap();
    let code = file.windows(4).position(|window| window == b"\x7fELF").unwrap();
    check!(&file[code..], LoadError::Precompiled, "machine code", "never accepted");
}

#[test]
fn what_is_refused_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    engine_in(folder.path()).unwrap().load(&describing("twice")).unwrap_err();
    assert!(files(folder.path()).is_empty());
}

#[test]
fn a_cache_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = engine_in(&file).unwrap_err().to_string();
    assert!(error.contains(&format!("the cache folder `{}", file.display())), "{error}");
    assert!(error.contains("choose another one, or run without a cache"), "{error}");
    #[cfg(unix)]
    {
        let link = folder.path().join("machine-code");
        std::os::unix::fs::symlink(tempfile::tempdir().unwrap().keep(), &link).unwrap();
        let error = engine_in(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is a link"), "{error}");
    }
}

#[test]
fn a_worker_without_slots_is_refused() {
    let error = Engine::new(&EngineConfig { slots: 0, ..EngineConfig::default() }).unwrap_err();
    assert!(error.to_string().contains("at least one slot"), "{error}");
}
