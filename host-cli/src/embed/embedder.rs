//! A model with its prefixes and its cache: from the texts of a data set to vectors.

use core::num::NonZeroUsize;
use core::time::Duration;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use query_adapter::Level;

use super::cache::{Cache, Cached, text_key};
use super::model::Model;
use super::origin::{GOLDEN_TEXT, Origin, cosine};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::json::quoted;
use crate::options::ModelOptions;
use crate::parallel::available_threads;
use crate::texts::Texts;
use crate::vectors::{Embeddings, Vectors};

/// The least cosine between what a service gives for the golden text and what it gave when the cache was begun.
const LEAST_COSINE: f64 = 0.99;

/// An embedding model, ready for texts.
pub struct Embedder {
    model: Box<dyn Model>,
    cache: Option<Cache>,
    query_prefix: String,
    document_prefix: String,
    quiet: bool,
    /// The model was found to be the one of the cache.
    confirmed: bool,
}

/// How many texts were embedded, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Texts that were asked for.
    pub texts: usize,
    /// Those found in the cache.
    pub cached: usize,
    /// Those embedded now; a text that stands there several times is embedded once.
    pub embedded: usize,
    /// Those longer than the model takes: their ends do not count.
    pub cut_off: usize,
}

impl core::fmt::Display for Counts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { texts, cached, embedded, cut_off } = self;
        write!(f, "{texts} texts, {cached} from cache, {embedded} embedded")?;
        if texts - cached > *embedded {
            write!(f, ", {} repeat another", texts - cached - embedded)?;
        }
        if *cut_off > 0 {
            write!(f, "; {cut_off} are longer than the model takes and were cut off")?;
        }
        Ok(())
    }
}

impl Embedder {
    /// Opens the model that `options` name, if they name one.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for a model this build cannot run, [`Failure::Input`] for one that cannot be loaded,
    /// [`Failure::Output`] for a cache that cannot be created.
    pub fn open(
        options: &ModelOptions,
        level: Level,
        threads: Option<NonZeroUsize>,
        quiet: bool,
    ) -> Result<Option<Self>, Failure> {
        let Some(name) = &options.model else { return Ok(None) };
        let model = match &options.model_url {
            Some(url) => service(options, name, url)?,
            None => local(name, level, threads.unwrap_or_else(available_threads), quiet)?,
        };
        let cache = match &options.cache {
            _ if options.no_cache => None,
            Some(folder) => Some(Cache::open(folder, model.digest())?),
            None => Some(Cache::open(&default_cache()?, model.digest())?),
        };
        let prefix = |given: &Option<String>, own: Option<&str>| {
            given.clone().or_else(|| own.map(str::to_owned)).unwrap_or_default()
        };
        Ok(Some(Self {
            query_prefix: prefix(&options.query_prefix, model.query_prefix()),
            document_prefix: prefix(&options.document_prefix, model.document_prefix()),
            model,
            cache,
            quiet,
            confirmed: false,
        }))
    }

    /// What the model is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.model.name()
    }

    /// The vectors of the queries and documents of a data set.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a text cannot be embedded. What was embedded before is in the cache.
    pub fn embeddings(&mut self, dataset: &Dataset) -> Result<(Embeddings, Counts), Failure> {
        self.embed_texts(&dataset.queries, &dataset.corpus)
    }

    /// As [`embeddings`](Self::embeddings), of texts that are in no data set.
    ///
    /// # Errors
    ///
    /// As [`embeddings`](Self::embeddings).
    pub fn embed_texts(&mut self, queries: &Texts, corpus: &Texts) -> Result<(Embeddings, Counts), Failure> {
        let with = |prefix: &str, texts: &Texts| -> Vec<String> {
            texts.texts().map(|text| format!("{prefix}{text}")).collect()
        };
        let mut texts = with(&self.query_prefix, queries);
        texts.extend(with(&self.document_prefix, corpus));
        let name = |at: usize| {
            let (what, ids, at) = match at.checked_sub(queries.ids.len()) {
                None => ("query", &queries.ids, at),
                Some(at) => ("document", &corpus.ids, at),
            };
            format!("the {what} {}", quoted(ids.iter().nth(at).unwrap_or_default()))
        };
        let (mut components, counts) = self.embed(&texts, &name)?;
        let dim = components.len().checked_div(texts.len()).unwrap_or(0);
        let documents = components.split_off(queries.ids.len() * dim);
        let vectors = |what: &str, texts: &Texts, components| {
            let source = format!("the vectors of the {what} by {}", self.model.name());
            Vectors::from_rows(source, texts.ids.clone(), dim, components).into()
        };
        let embeddings = Embeddings {
            queries: vectors("queries", queries, components),
            corpus: vectors("documents", corpus, documents),
        };
        Ok((embeddings, counts))
    }

    /// Which model this is, with the vector of the golden text.
    ///
    /// # Errors
    ///
    /// As [`embeddings`](Self::embeddings).
    pub fn origin(&mut self) -> Result<Origin, Failure> {
        let (golden_vector, _) = self.embed(&[self.golden_input()], &golden_name)?;
        Ok(Origin {
            model: self.model.name().to_owned(),
            query_prefix: self.query_prefix.clone(),
            document_prefix: self.document_prefix.clone(),
            golden_text: GOLDEN_TEXT.to_owned(),
            golden_vector,
        })
    }

    fn golden_input(&self) -> String {
        format!("{}{GOLDEN_TEXT}", self.query_prefix)
    }

    /// The vectors of texts with their prefixes, text after text; `name` is what errors call one of them.
    fn embed(
        &mut self,
        texts: &[String],
        name: &dyn Fn(usize) -> String,
    ) -> Result<(Vec<f32>, Counts), Failure> {
        let keys: Vec<_> = texts.iter().map(|text| text_key(text)).collect();
        let mut known: HashMap<_, Cached> = match &mut self.cache {
            Some(cache) => cache.find(&keys)?,
            None => HashMap::new(),
        };
        let mut counts = Counts {
            texts: texts.len(),
            cached: keys.iter().filter(|key| known.contains_key(*key)).count(),
            ..Counts::default()
        };
        // For look-ups only.
        let mut seen = std::collections::HashSet::new();
        let missing: Vec<usize> =
            (0..texts.len()).filter(|&at| !known.contains_key(&keys[at]) && seen.insert(keys[at])).collect();
        counts.embedded = missing.len();
        if !missing.is_empty() {
            self.confirm()?;
            let bar = self.bar(missing.len());
            let inputs: Vec<&str> = missing.iter().map(|&at| texts[at].as_str()).collect();
            let cache = &mut self.cache;
            let model = self.model.name().to_owned();
            let result = self.model.embed(&inputs, &mut |embedded| {
                let key = &keys[missing[embedded.text]];
                if embedded.vector.iter().any(|value| !value.is_finite()) {
                    let text = name(missing[embedded.text]);
                    return Err(Failure::Numerical(format!("the vector of {text} by {model} is not finite")));
                }
                if let Some(cache) = cache {
                    cache.insert(key, embedded.vector, embedded.cut_off)?;
                }
                let vector = embedded.vector.to_vec();
                known.insert(*key, Cached { vector, cut_off: embedded.cut_off });
                bar.inc(1);
                Ok(())
            });
            bar.finish_and_clear();
            result.map_err(|stop| stop.into_failure(|text| name(missing[text])))?;
        }
        let mut components = Vec::new();
        let mut dim = None;
        for (at, key) in keys.iter().enumerate() {
            let Some(cached) = known.get(key) else {
                let text = name(at);
                return Err(anyhow::anyhow!("{} gave no vector for {text}", self.model.name()).into());
            };
            let expected = *dim.get_or_insert(cached.vector.len());
            if expected != cached.vector.len() {
                return Err(Failure::input(
                    Path::new(self.model.name()),
                    format!(
                        "the model gave a vector of {expected} components and one of {}; it is not one model: check \
                         --model and --model-url",
                        cached.vector.len()
                    ),
                ));
            }
            counts.cut_off += usize::from(cached.cut_off);
            components.extend_from_slice(&cached.vector);
        }
        Ok((components, counts))
    }

    /// Makes sure, once, that a service still has the model whose vectors are in the cache.
    fn confirm(&mut self) -> Result<(), Failure> {
        if self.confirmed || !self.model.may_change() {
            return Ok(());
        }
        self.confirmed = true;
        let input = self.golden_input();
        let Some(cache) = &mut self.cache else { return Ok(()) };
        let key = text_key(&input);
        let mut found = None;
        let asked = self.model.embed(&[&input], &mut |embedded| {
            found = Some(embedded.vector.to_vec());
            Ok(())
        });
        asked.map_err(|stop| stop.into_failure(golden_name))?;
        let Some(found) = found else { return Ok(()) };
        match cache.find(&[key])?.remove(&key) {
            None => cache.insert(&key, &found, false),
            Some(known)
                if known.vector.len() == found.len() && cosine(&known.vector, &found) >= LEAST_COSINE =>
            {
                Ok(())
            }
            Some(_) => Err(Failure::input(
                cache.folder(),
                format!(
                    "the service's vectors under the name {} are not those of the cache any more: the model has \
                     changed; delete this folder or give --cache with another one, and train again",
                    self.model.name()
                ),
            )),
        }
    }

    /// A bar on stderr, if that is a terminal and the user wants one.
    fn bar(&self, length: usize) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(length as u64), target);
        let style = ProgressStyle::with_template("embedding {bar:16} {pos}/{len} texts {per_sec} {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

/// What errors call the text by which models are told apart.
fn golden_name(_: usize) -> String {
    format!("the text that tells models apart, {}", quoted(GOLDEN_TEXT))
}

#[cfg(feature = "models")]
fn local(name: &str, level: Level, threads: NonZeroUsize, quiet: bool) -> Result<Box<dyn Model>, Failure> {
    let found = super::hub::resolve(name, quiet)?;
    Ok(Box::new(super::local::LocalModel::load(&found.folder, found.name, level, threads)?))
}

#[cfg(not(feature = "models"))]
fn local(_: &str, _: Level, _: NonZeroUsize, _: bool) -> Result<Box<dyn Model>, Failure> {
    Err(not_built("runs no models", "models"))
}

#[cfg(feature = "endpoint")]
fn service(options: &ModelOptions, model: &str, url: &str) -> Result<Box<dyn Model>, Failure> {
    let settings = super::endpoint::Settings {
        url: url.to_owned(),
        model: model.to_owned(),
        key_variable: options.api_key_env.clone(),
        batch: options.request_texts as usize,
        requests: options.requests as usize,
        per_minute: options.requests_per_minute,
        timeout: Duration::from_secs_f64(options.request_timeout),
    };
    Ok(Box::new(super::endpoint::Endpoint::new(settings)?))
}

#[cfg(not(feature = "endpoint"))]
fn service(_: &ModelOptions, _: &str, _: &str) -> Result<Box<dyn Model>, Failure> {
    Err(not_built("asks no embedding services", "endpoint"))
}

#[cfg(not(all(feature = "models", feature = "endpoint")))]
fn not_built(what: &str, feature: &str) -> Failure {
    Failure::Usage(format!("this build {what}; one with `--features {feature}` does: see docs/models.md"))
}

/// The cache folder where none is named: that of the platform.
fn default_cache() -> Result<PathBuf, Failure> {
    use etcetera::BaseStrategy as _;
    let strategy = etcetera::choose_base_strategy()
        .map_err(|_| Failure::Usage("there is no home folder for the cache; give --cache DIR".to_owned()))?;
    Ok(strategy.cache_dir().join("query-adapter"))
}
