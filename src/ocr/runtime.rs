//! ONNX Runtime: the one shared library, its one environment, and sessions cut to our measure.
//!
//! Owns: loading the library from a path (never from the linker's search path), the environment of
//! this process, and the session options every model runs with. Telemetry is off. It must never
//! know what a model is for. Called by `detect`, `recognize_ctc` and `orient`.
//!
//! A process can hold one runtime only: the first path that loads wins, and a later request for
//! another path is refused rather than silently served by the first.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::EngineError;

/// The environment of this process and the library it came from. It lives as long as the process:
/// the runtime does not allow a second one.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// A loaded ONNX Runtime, from which sessions are made. Cheap to clone.
#[derive(Clone)]
pub(super) struct Runtime {
    environment: Environment,
    threads: usize,
}

impl Runtime {
    /// Loads the shared library at `library`, or hands out the one already loaded from there.
    /// Sessions get `threads` threads each; 0 means all cores.
    pub(super) fn load(library: &Path, threads: usize) -> Result<Self, EngineError> {
        let path = library
            .canonicalize()
            .map_err(|error| EngineError::Model(format!("ONNX Runtime is not at {}: {error}", library.display())))?;
        let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) } else { threads };
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((first, environment)) = loaded.as_ref() {
            if *first != path {
                return Err(EngineError::Model(format!(
                    "this process already runs ONNX Runtime from {}: it cannot load {} too",
                    first.display(),
                    path.display()
                )));
            }
            return Ok(Runtime { environment: environment.clone(), threads });
        }
        let environment = ort::init_from(&path)
            .map_err(|error| EngineError::Model(format!("ONNX Runtime does not load: {error}")))?
            .with_name("inkport")
            .with_telemetry(false)
            .build()
            .map_err(|error| EngineError::Model(format!("ONNX Runtime does not start: {error}")))?;
        *loaded = Some((path, environment.clone()));
        Ok(Runtime { environment, threads })
    }

    /// Loads a model file.
    pub(super) fn session(&self, model: &Path) -> Result<Session, EngineError> {
        self.build(model).map_err(|error| EngineError::Model(format!("{} does not load: {error}", model.display())))
    }

    fn build(&self, model: &Path) -> ort::Result<Session> {
        Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.threads)?
            // A page's models run one after the other: a pool that spins after its work steals the
            // core from the next model's pool.
            .with_intra_op_spinning(false)?
            // Every page and every batch has another shape: remembered patterns would only pile up.
            .with_memory_pattern(false)?
            // The arena never gives memory back; one large page would be paid for until the end.
            .with_execution_providers([ort::ep::CPU::default().with_arena_allocator(false).build()])?
            .commit_from_file(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let error = Runtime::load(Path::new("/nonexistent/libonnxruntime.so"), 1).err().expect("there is no such file");
        assert!(matches!(&error, EngineError::Model(text) if text.contains("/nonexistent/libonnxruntime.so")), "{error}");
    }
}
