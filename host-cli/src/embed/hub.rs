//! From a model's name to its folder: a path, the cache of the Hugging Face libraries, or a download.

use std::env;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo};

use crate::failure::Failure;

/// The organisation of the models that sentence-transformers knows by their bare names.
const DEFAULT_ORGANISATION: &str = "sentence-transformers";

/// The small files of a model that are fetched where there are any.
const SMALL_FILES: [&str; 6] = [
    "config.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
];

/// Where a tokenizer may be.
const TOKENIZERS: [&str; 2] = ["tokenizer.json", "0_StaticEmbedding/tokenizer.json"];

/// Where weights may be. They come last: what is refused should be refused before, and a model whose weights are in the
/// cache is taken to be there wholly.
const WEIGHTS: [&str; 2] = ["model.safetensors", "0_StaticEmbedding/model.safetensors"];

/// A model's folder and what the model is called, which holds no path of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
}

/// Finds the folder of `model`: a path, or a name as the Hugging Face hub has it.
///
/// # Errors
///
/// [`Failure::Input`] when there is no such folder and no such model in the cache, and it cannot be downloaded.
pub(crate) fn resolve(model: &str, quiet: bool) -> Result<Found, Failure> {
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(Found { folder: path.to_owned(), name: name_of(path) });
    }
    if !is_hub_name(model) {
        let problem =
            "there is no such folder, and this is no name of a model on the Hugging Face hub; check the path";
        return Err(Failure::input(path, problem));
    }
    let name = if model.contains('/') { model.to_owned() } else { format!("{DEFAULT_ORGANISATION}/{model}") };
    let cache = cache_folder().ok_or_else(|| {
        Failure::input(
            path,
            "there is no home folder to keep models in; set HF_HOME or give the model's folder",
        )
    })?;
    let repo = Repo::model(name.clone());
    let cached = Cache::new(cache.clone()).repo(repo.clone());
    if let (Some(config), Some(_)) = (
        cached.get("config.json").or_else(|| cached.get("modules.json")),
        WEIGHTS.iter().find_map(|file| cached.get(file)),
    ) {
        return Ok(Found { folder: folder_of(&config), name });
    }
    if env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0")) {
        let problem = format!(
            "the model {name} is not in the cache {}, and HF_HUB_OFFLINE forbids to download it",
            cache.display()
        );
        return Err(Failure::input(path, problem));
    }
    let folder = download(repo, &cache, quiet).map_err(|problem| {
        let problem = format!(
            "the model {name} is neither a folder nor in the cache {}, and cannot be downloaded: {problem}",
            cache.display()
        );
        Failure::input(path, problem)
    })?;
    Ok(Found { folder, name })
}

/// Fetches a model's files into the cache; returns its folder there, or what kept it from that.
fn download(repo: Repo, cache: &Path, quiet: bool) -> Result<PathBuf, String> {
    let mut builder =
        ApiBuilder::from_env().with_cache_dir(cache.to_owned()).with_progress(!quiet).with_retries(3);
    if let Ok(token) = env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let api = builder.build().map_err(|error| problem_of(&error))?.repo(repo);
    let present = api.info().map_err(|error| problem_of(&error))?.siblings;
    let present = |file: &&&str| present.iter().any(|sibling| sibling.rfilename == **file);
    for (places, file) in [(TOKENIZERS, "tokenizer.json"), (WEIGHTS, "model.safetensors")] {
        if places.iter().find(present).is_none() {
            return Err(format!(
                "its repository has no {file}; serve it behind an OpenAI-compatible service and give --model-url"
            ));
        }
    }
    let mut folder = PathBuf::new();
    for file in SMALL_FILES.iter().chain(&TOKENIZERS).chain(&WEIGHTS).filter(present) {
        let path = api.get(file).map_err(|error| problem_of(&error))?;
        if !file.contains('/') {
            folder = folder_of(&path);
        }
    }
    Ok(folder)
}

/// What the hub's answer means, and what to do.
fn problem_of(error: &ApiError) -> String {
    let status = match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    };
    match status {
        Some(status @ (401 | 403)) => format!(
            "the hub answered {status}: it has no such model, or not for everybody; check the name, or give the hub's \
             token in HF_TOKEN"
        ),
        Some(status @ 404) => format!("the hub answered {status}: it has no model of this name; check it"),
        _ => format!(
            "{error}; try again, or give the path of a folder with config.json, tokenizer.json and model.safetensors"
        ),
    }
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where the Hugging Face libraries keep models.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE").or_else(|| Some(variable("HF_HOME")?.join("hub"))).or_else(|| {
        let strategy = etcetera::base_strategy::Xdg::new().ok()?;
        Some(strategy.cache_dir().join("huggingface").join("hub"))
    })
}

/// The name of the model in a folder: its own name, or that of the hub for a folder of its cache.
fn name_of(folder: &Path) -> String {
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let names: Vec<_> = absolute.iter().filter_map(|name| name.to_str()).collect();
    match names[..] {
        [.., repo, "snapshots", _] if repo.starts_with("models--") => {
            repo.trim_start_matches("models--").replacen("--", "/", 1)
        }
        [.., last] => last.to_owned(),
        [] => String::new(),
    }
}

fn is_hub_name(model: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    let mut parts = model.split('/');
    let good = parts.by_ref().take(2).all(part);
    good && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        for name in ["all-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5", "intfloat/e5_base"] {
            assert!(is_hub_name(name), "{name}");
        }
        for path in ["", "/models/x", "./x", "../x", "a/b/c", "a//b", "C:\\x", "a b", "x/"] {
            assert!(!is_hub_name(path), "{path}");
        }
    }

    #[test]
    fn a_folder_of_the_hubs_cache_has_the_name_of_its_model() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, expected) in
            [("models--BAAI--bge-small-en/snapshots/0123", "BAAI/bge-small-en"), ("models/minilm", "minilm")]
        {
            let path = folder.path().join(path);
            std::fs::create_dir_all(&path).expect("created");
            assert_eq!(name_of(&path), expected);
        }
    }
}
