//! From bytes to a plugin: everything that is checked before a component may execute anything.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use semver::Version;
use tokio_util::sync::CancellationToken;
use wasmtime::{Precompiled, component::Component};

use super::{
    Core, Engine, Plugin, PluginInner,
    bindings::{PluginPre, exports::palfrey::plugin::operations as guest},
    description::{Description, DescriptionError, Descriptor, Kind, cut},
    error::{LoadError, Stopped},
    grants::Grants,
    instance::{Request, State},
    limits::Limits,
    wasi,
};
use crate::task::{Cause, Digest};

/// The package of the contract.
const PACKAGE: &str = "palfrey:plugin/";
/// What a plugin exports.
const OPERATIONS: &str = "palfrey:plugin/operations@0.1.0";
/// What a plugin may import besides WASI. The types that both use come along.
pub(super) const CONTEXT: &str = "palfrey:plugin/context@0.1.0";
const TYPES: &str = "palfrey:plugin/types@0.1.0";

/// Time that a plugin has to describe itself. The ordinary limit is for work, and this is none.
const DESCRIBE_TIME: Duration = Duration::from_secs(5);

/// The largest description in bytes.
const DESCRIBE_ANSWER: u64 = 16 << 20;

/// What the first four bytes of WebAssembly are, and the next four of a component and of a module.
const WASM: &[u8] = b"\0asm";
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];
const MODULE: &[u8] = &[1, 0, 0, 0];

impl Engine {
    /// Checks a component, compiles it or takes its machine code from the cache, and asks it to describe itself.
    ///
    /// It blocks the thread for as long as compiling takes (a tenth of a second for a small component, seconds for one of
    /// tens of megabytes): call it on a thread for that, such as one of `spawn_blocking`.
    ///
    /// ```
    /// use palfrey_host::engine::{Engine, EngineConfig, LoadError};
    ///
    /// let engine = Engine::new(&EngineConfig::default())?;
    /// let error = engine.load(b"#!/bin/sh").unwrap_err();
    /// assert!(matches!(error, LoadError::NotWasm));
    /// println!("{error}"); // It says what to deploy instead.
    /// # Ok::<(), palfrey_host::engine::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// If it is not a plugin that can be executed here. The error says what to do about it.
    pub fn load(&self, wasm: &[u8]) -> Result<Plugin, LoadError> {
        let core = &self.core;
        core.check_bytes(wasm)?;
        let digest = Digest::of(wasm);
        let cached = core.cache.as_ref().and_then(|cache| cache.load(&digest, &core.wasmtime));
        let (component, fresh) = match cached {
            Some(component) => (component, None),
            None => {
                let code = core.compile(wasm)?;
                (deserialize(&core.wasmtime, &code).map_err(|error| refused(&error))?, Some(code))
            }
        };
        let imports = core.check_world(&component)?;
        let incompatible = |error: wasmtime::Error| LoadError::Incompatible { reason: one_line(&error) };
        let pre = core.linker.instantiate_pre(&component).and_then(PluginPre::new).map_err(incompatible)?;
        let name = digest.short();
        let description = core.describe(&name, &pre)?;
        // Once it is known to be a plugin, what makes its instances quick is worth its price.
        component.initialize_copy_on_write_image().map_err(incompatible)?;
        if let (Some(cache), Some(code)) = (&core.cache, fresh) {
            cache.store(&digest, &code);
        }
        let core = Arc::clone(core);
        let size = wasm.len() as u64;
        let apart = description.operations.iter().map(|_| AtomicBool::new(false)).collect();
        let inner = PluginInner { core, pre, digest, description, imports, size, apart };
        Ok(Plugin { inner: Arc::new(inner), grants: Grants::default() })
    }
}

impl Core {
    pub(super) fn check_size(&self, size: u64) -> Result<(), LoadError> {
        let limit = self.compile_limits.component;
        if size > limit { Err(LoadError::TooLarge { size, limit }) } else { Ok(()) }
    }

    fn check_bytes(&self, wasm: &[u8]) -> Result<(), LoadError> {
        self.check_size(wasm.len() as u64)?;
        match wasmtime::Engine::detect_precompiled(wasm) {
            Some(Precompiled::Module | Precompiled::Component) => return Err(LoadError::Precompiled),
            None => {}
        }
        match wasm.strip_prefix(WASM) {
            None => Err(LoadError::NotWasm),
            Some(rest) if rest.starts_with(COMPONENT) => Ok(()),
            Some(rest) if rest.starts_with(MODULE) => Err(LoadError::CoreModule),
            Some(_) => {
                Err(LoadError::Malformed { reason: "it has an unknown version of the binary format".to_owned() })
            }
        }
    }

    /// Checks the names of imports and exports. Returns the imports.
    fn check_world(&self, component: &Component) -> Result<Vec<String>, LoadError> {
        let ty = component.component_type();
        let exports = ty.exports(&self.wasmtime).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        match exports.iter().find(|name| unversioned(name) == unversioned(OPERATIONS)) {
            Some(found) => check_version(found, OPERATIONS)?,
            None => return Err(LoadError::NoOperations { expected: OPERATIONS, found: exports }),
        }
        let imports = ty.imports(&self.wasmtime).map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        for import in imports.iter().filter(|import| import.starts_with(PACKAGE)) {
            for granted in [CONTEXT, TYPES] {
                if unversioned(import) == unversioned(granted) {
                    check_version(import, granted)?;
                }
            }
        }
        let refused: Vec<_> = imports.iter().filter(|import| !is_granted(import)).cloned().collect();
        if refused.is_empty() { Ok(imports) } else { Err(LoadError::ImportsNotGranted { imports: refused }) }
    }

    /// The smoke call.
    fn describe(&self, plugin: &str, pre: &PluginPre<State>) -> Result<Description, LoadError> {
        let request = Request {
            operation: "describe",
            config: &[],
            attempt: 0,
            limits: Limits { time: DESCRIBE_TIME, ..self.largest },
            spent: Duration::ZERO,
            answer: DESCRIBE_ANSWER,
            cancel: CancellationToken::new(),
            progress: None,
            grants: Grants::default(),
        };
        let answer = self
            .execute(&self.smoke_calls, plugin, pre, request, |guest, store| guest.call_describe(store))
            .map_err(|stopped| match stopped.cause {
                Cause::OutputTooLarge { .. } => Stopped {
                    cause: Cause::OutputTooLarge { limit: DESCRIBE_ANSWER },
                    message: "the description is too large".to_owned(),
                    ..stopped
                },
                _ => stopped,
            })
            .map_err(LoadError::Describe)?;
        Ok(description(answer.value)?)
    }
}

fn description(answer: guest::Description) -> Result<Description, DescriptionError> {
    let guest::Description { name, version, operations } = answer;
    let operations = operations.into_iter().map(descriptor).collect::<Result<_, _>>()?;
    Description::new(name, &version, operations)
}

fn descriptor(operation: guest::Descriptor) -> Result<Descriptor, DescriptionError> {
    let needs = operation.needs.iter().map(|need| need.parse()).collect::<Result<_, _>>();
    Ok(Descriptor {
        needs: needs.map_err(|source| DescriptionError::Need { operation: cut(&operation.name), source })?,
        name: operation.name,
        kind: match operation.kind {
            guest::Kind::Operation => Kind::Operation,
            guest::Kind::Monoid => Kind::Monoid,
        },
        summary: operation.summary,
        encodings: operation.encodings,
        config_schema: operation.config_schema,
        input_schema: operation.input_schema,
        output_schema: operation.output_schema,
    })
}

fn is_granted(import: &str) -> bool {
    let name = unversioned(import);
    if [CONTEXT, TYPES].map(unversioned).contains(&name) {
        return true;
    }
    wasi::INTERFACES.contains(&name) && version(import).is_some_and(|version| (version.major, version.minor) == (0, 2))
}

/// Compatible by semver: for 0.x the same minor version.
fn check_version(found: &str, expected: &'static str) -> Result<(), LoadError> {
    let compatible = |version: Version| {
        if version.major > 0 { (version.major, 0, 0) } else { (0, version.minor, u64::from(!version.pre.is_empty())) }
    };
    let (theirs, ours) = (version(found).map(compatible), version(expected).map(compatible));
    if theirs == ours {
        return Ok(());
    }
    Err(LoadError::ContractVersion { found: found.to_owned(), expected, newer: theirs > ours })
}

fn unversioned(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

fn version(name: &str) -> Option<Version> {
    Version::parse(name.split_once('@')?.1).ok()
}

/// Why the compiler refused it.
pub(super) fn refused(error: &wasmtime::Error) -> LoadError {
    LoadError::refused(one_line(error))
}

#[expect(unsafe_code, reason = "machine code can be vouched for, but not checked")]
fn deserialize(wasmtime: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must be what wasmtime's compiler returned, unchanged. `Core::compile` has just returned them; where a
    // child process compiled them it ran this program, and they came through a pipe that nobody else has. That they fit this
    // engine and processor is checked by wasmtime.
    unsafe { Component::deserialize(wasmtime, code) }
}

/// An error and its causes.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    let line = error.chain().map(|cause| cause.to_string()).collect::<Vec<_>>().join(": ");
    super::journal::cut(&line.replace('\n', " "), 1 << 10)
}
