//! A model's folder: `config.json` and what sentence-transformers and model2vec lay beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::pooling::Pooling;
use crate::failure::Failure;

/// What a folder says about its model, but for the weights.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// Where `config.json`, `tokenizer.json` and `model.safetensors` lie.
    pub(crate) weights: PathBuf,
    pub(crate) kind: Kind,
    /// Whether vectors are scaled to length 1.
    pub(crate) normalize: bool,
    /// Texts are cut off after so many tokens, where the files say so.
    pub(crate) most_tokens: Option<usize>,
    pub(crate) lower_case: bool,
    /// What the model wants before a query, where the files say so.
    pub(crate) query_prefix: Option<String>,
    /// What the model wants before a document, where the files say so.
    pub(crate) document_prefix: Option<String>,
}

/// What is done with a text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Transformer(Pooling),
    /// As model2vec does it: unknown tokens are left out, long texts cut off by characters too.
    Model2Vec,
    /// As sentence-transformers' `StaticEmbedding` does it: all tokens count.
    StaticEmbedding,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    name: String,
}

#[derive(Deserialize)]
struct StaticConfig {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    normalize: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    max_length: Option<Option<usize>>,
    seq_length: Option<usize>,
}

/// `null` is said, unlike an absent key.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Tokens that model2vec keeps where its file does not say how many.
const MODEL2VEC_TOKENS: usize = 512;

#[derive(Default, Deserialize)]
struct TransformerSettings {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Default, Deserialize)]
struct TokenizerSettings {
    /// Some files have 10³⁰ here, which means none.
    model_max_length: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Prompts {
    #[serde(default)]
    prompts: std::collections::HashMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl Folder {
    /// Reads the small files of a folder.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a file is missing or malformed, or says something that is not supported.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let modules: Option<Vec<Module>> = read(&path.join("modules.json"))?;
        let mut folder = Self {
            path: path.to_owned(),
            weights: path.to_owned(),
            kind: Kind::Transformer(Pooling::Mean),
            normalize: false,
            most_tokens: None,
            lower_case: false,
            query_prefix: None,
            document_prefix: None,
        };
        let config: Option<StaticConfig> = read(&path.join("config.json"))?;
        if let Some(config) = config.filter(StaticConfig::is_model2vec) {
            folder.kind = Kind::Model2Vec;
            folder.normalize = config.normalize.unwrap_or(false);
            folder.most_tokens = match config.max_length {
                Some(most) => most,
                None => config.seq_length.filter(|&most| most > 0).or(Some(MODEL2VEC_TOKENS)),
            };
        } else if let Some(modules) = modules {
            folder.read_modules(&modules)?;
        }
        if let Kind::Transformer(_) = folder.kind {
            folder.read_transformer_settings()?;
        }
        folder.read_prompts()?;
        if !folder.weights.join("config.json").is_file() && folder.kind != Kind::StaticEmbedding {
            let problem = "there is no config.json in it; expected the folder of a Hugging Face model with config.json, \
                           tokenizer.json and model.safetensors";
            return Err(Failure::input(&folder.weights, problem));
        }
        Ok(folder)
    }

    fn read_modules(&mut self, modules: &[Module]) -> Result<(), Failure> {
        let file = self.path.join("modules.json");
        for (index, module) in modules.iter().enumerate() {
            // Newer versions say sentence_transformers.base.modules.transformer.Transformer.
            let name = module.name.rsplit('.').next().unwrap_or_default();
            let path = self.path.join(module.path.trim_start_matches("./"));
            match (index, name) {
                (0, "Transformer") => self.weights = path,
                (0, "StaticEmbedding") => {
                    self.weights = path;
                    self.kind = Kind::StaticEmbedding;
                }
                (1, "Pooling") if matches!(self.kind, Kind::Transformer(_)) => {
                    self.kind = Kind::Transformer(read_pooling(&path.join("config.json"))?);
                }
                (1.., "Normalize") => self.normalize = true,
                _ => {
                    let problem = format!(
                        "module {index} is {:?}, expected Transformer or StaticEmbedding, then Pooling and \
                         Normalize; serve this model behind an OpenAI-compatible service and give --model-url",
                        module.name
                    );
                    return Err(Failure::input(&file, problem));
                }
            }
        }
        Ok(())
    }

    fn read_transformer_settings(&mut self) -> Result<(), Failure> {
        let settings: TransformerSettings =
            read(&self.weights.join("sentence_bert_config.json"))?.unwrap_or_default();
        let tokenizer: TokenizerSettings =
            read(&self.weights.join("tokenizer_config.json"))?.unwrap_or_default();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 1 to a million it fits"
        )]
        let of_tokenizer =
            tokenizer.model_max_length.filter(|most| (1.0..1e6).contains(most)).map(|most| most as usize);
        self.most_tokens = settings.max_seq_length.or(of_tokenizer);
        self.lower_case = settings.do_lower_case;
        Ok(())
    }

    fn read_prompts(&mut self) -> Result<(), Failure> {
        let Prompts { mut prompts, default_prompt_name } =
            read(&self.path.join("config_sentence_transformers.json"))?.unwrap_or_default();
        let default = default_prompt_name.and_then(|name| prompts.get(&name).cloned().flatten());
        let mut take = |names: &[&str]| {
            let found = names.iter().find_map(|&name| prompts.remove(name).flatten());
            found.or_else(|| default.clone())
        };
        self.query_prefix = take(&["query"]);
        self.document_prefix = take(&["document", "passage", "corpus"]);
        Ok(())
    }

    /// The contents of a file that the model cannot do without.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when it cannot be read.
    pub(crate) fn required(&self, name: &str) -> Result<(PathBuf, Vec<u8>), Failure> {
        let path = self.weights.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing(name)),
            Err(error) => Err(Failure::unreadable(&path, &error)),
        }
    }

    /// The path of the weights.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when they are not there in the one form that is read.
    pub(crate) fn tensor_file(&self) -> Result<PathBuf, Failure> {
        let path = self.weights.join("model.safetensors");
        if path.is_file() { Ok(path) } else { Err(self.missing("model.safetensors")) }
    }

    fn missing(&self, name: &str) -> Failure {
        let has = |name: &str| self.weights.join(name).is_file();
        let problem = match name {
            "model.safetensors" if has("model.safetensors.index.json") => {
                "the weights are in several files, expected one model.safetensors; save the model again with \
                 model.save_pretrained(folder, max_shard_size=\"100GB\")"
                    .to_owned()
            }
            "model.safetensors" if has("pytorch_model.bin") => {
                "the weights are in pytorch_model.bin, expected model.safetensors; save the model again with \
                 model.save_pretrained(folder)"
                    .to_owned()
            }
            "tokenizer.json" if has("vocab.txt") || has("sentencepiece.bpe.model") => {
                "the tokenizer is in an old form, expected tokenizer.json; save it again with \
                 AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
                    .to_owned()
            }
            _ => format!("there is no {name}, which every model has; download it again"),
        };
        Failure::input(&self.weights, problem)
    }
}

impl StaticConfig {
    /// Older versions name themselves; newer ones are known by a setting that no transformer has.
    fn is_model2vec(&self) -> bool {
        self.model_type.as_deref() == Some("model2vec")
            || (self.model_type.is_none() && self.normalize.is_some())
            || self.architectures.iter().flatten().any(|name| name == "StaticModel")
    }
}

/// A small JSON file; none when it is absent.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::unreadable(path, &error)),
    };
    let parsed = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::input(path, format!("found a file of another form ({error}); download the model again"))
    })?;
    Ok(Some(parsed))
}

/// `1_Pooling/config.json` in its old form, a flag for each mode, and its new one.
fn read_pooling(path: &Path) -> Result<Pooling, Failure> {
    #[derive(Deserialize)]
    struct Config {
        pooling_mode: Option<Modes>,
        include_prompt: Option<bool>,
        #[serde(flatten)]
        flags: std::collections::BTreeMap<String, serde_json::Value>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Modes {
        One(String),
        Several(Vec<String>),
    }
    let Some(config) = read::<Config>(path)? else {
        return Err(Failure::input(path, "there is no such file; download the model again"));
    };
    let modes = match config.pooling_mode {
        Some(Modes::One(mode)) => vec![mode],
        Some(Modes::Several(modes)) => modes,
        None => {
            let on = config.flags.into_iter().filter(|(_, value)| value == &serde_json::Value::Bool(true));
            let flag = |name: &str| {
                let mode = name.strip_prefix("pooling_mode_")?;
                Some(match mode {
                    "mean_sqrt_len_tokens" => mode.to_owned(),
                    _ => mode.trim_end_matches("_tokens").trim_end_matches("_token").to_owned(),
                })
            };
            on.filter_map(|(name, _)| flag(&name)).collect()
        }
    };
    let fail = |problem: String| {
        let problem = format!(
            "{problem}, expected one of mean, cls, max and lasttoken; serve this model behind an OpenAI-compatible \
             service and give --model-url"
        );
        Err(Failure::input(path, problem))
    };
    if config.include_prompt == Some(false) {
        return fail("the prompt is left out of the pooling".to_owned());
    }
    match &modes[..] {
        [] => Ok(Pooling::Mean),
        [mode] => match Pooling::by_name(mode) {
            Some(pooling) => Ok(pooling),
            None => fail(format!("found the pooling {mode:?}")),
        },
        several => fail(format!("found {} kinds of pooling side by side", several.len())),
    }
}
