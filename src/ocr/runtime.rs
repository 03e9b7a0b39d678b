//! ONNX Runtime: the one shared library, its one environment, and sessions cut to our measure.
//!
//! Owns: loading the library from a path (never from the linker's search path), the environment of
//! this process, and the session options every model runs with. It must never know what a model is for.
//! Called by `detect`, `recognize_ctc` and `orient`.
//!
//! From 1.29 on ONNX Runtime reports to its maker, from the moment its environment is made: before any
//! call could switch that off. Only [`NO_TELEMETRY`] in the process's environment does, so without it the
//! library is not even loaded.
//!
//! A process can hold one runtime only: the first path that loads wins, and a later request for
//! another path is refused rather than silently served by the first.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{NoSelectedOutputs, RunOptions, Session};
use ort::value::TensorRef;

use super::EngineError;

/// The environment of this process and the library it came from. It lives as long as the process:
/// the runtime does not allow a second one.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// What must stand in a process's environment, at this value, before ONNX Runtime is loaded.
pub const NO_TELEMETRY: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

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
        let (name, value) = NO_TELEMETRY;
        if std::env::var_os(name).is_none_or(|set| set != value) {
            return Err(EngineError::Model(format!(
                "ONNX Runtime is not loaded where it could report to its maker: set {name}={value}"
            )));
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

    /// Loads a model file: one input of four dimensions, one output.
    pub(super) fn model(&self, path: &Path) -> Result<Model, EngineError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let options = || {
            let mut options = RunOptions::new()?;
            options.set("memory.enable_memory_arena_shrinkage", "cpu:0")?;
            Ok::<_, ort::Error>(options)
        };
        self.build(path)
            .and_then(|session| Ok(Model { session, options: options()?, name }))
            .map_err(|error| EngineError::Model(format!("{} does not load: {error}", path.display())))
    }

    fn build(&self, model: &Path) -> ort::Result<Session> {
        Session::builder(&self.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(self.threads)?
            // A page's models run one after the other: a pool that spins after its work takes the
            // core from the next model's pool (and doubled the CPU time of a page).
            .with_intra_op_spinning(false)?
            // Every page and every batch has another shape: remembered patterns would only pile up.
            .with_memory_pattern(false)?
            // Within a run the arena saves a fifth of the CPU time, which page faults would take;
            // after each run it is told to give back what it holds, or one large page would be paid
            // for until the end.
            .with_execution_providers([ort::ep::CPU::default().with_arena_allocator(true).build()])?
            .commit_from_file(model)
    }
}

/// A model with one input and one output, both of 32-bit floats.
pub(super) struct Model {
    session: Session,
    options: RunOptions<NoSelectedOutputs>,
    name: String,
}

impl Model {
    /// Runs the model on `input`, a tensor of `shape` (batch, channels, height, width), and hands
    /// its output's shape and numbers to `read`.
    pub(super) fn run<T>(
        &mut self,
        shape: [usize; 4],
        input: &[f32],
        read: impl FnOnce(&[i64], &[f32]) -> Result<T, String>,
    ) -> Result<T, EngineError> {
        let failed = |error: String| EngineError::Model(format!("{} does not run: {error}", self.name));
        let input = TensorRef::from_array_view((shape, input)).map_err(|error| failed(error.to_string()))?;
        let outputs =
            self.session.run_with_options(ort::inputs![input], &self.options).map_err(|error| failed(error.to_string()))?;
        let (shape, output) = outputs[0].try_extract_tensor::<f32>().map_err(|error| failed(error.to_string()))?;
        read(shape, output).map_err(failed)
    }

    /// An entry of the model's own metadata.
    pub(super) fn metadata(&self, key: &str) -> Option<String> {
        self.session.metadata().ok()?.custom(key)
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
