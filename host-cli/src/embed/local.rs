//! A model run in this process: text to tokens to vector, on all cores.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use query_adapter::{Level, normalize_rows};
use sha2::{Digest as _, Sha256};

use super::folder::{Folder, Kind};
use super::model::{Digest, Embedded, Model, Stop};
use super::pooling::Pooling;
use super::static_model::StaticModel;
use super::tensors::TensorFile;
use super::tokens::{TextTokenizer, TokenSettings, Tokens, Vocabulary};
use super::transformer::{Buffers, Config, Transformer};
use crate::failure::Failure;

/// Counts as a part of every digest: to be changed with anything that changes a vector.
const DIGEST_TAG: &[u8] = b"query-adapter local model 1";

/// Texts split into tokens and sorted by length at a time.
const WINDOW: usize = 4096;

/// Tokens computed together by one thread: enough to read the weights seldom, few enough to stay in a core's cache.
const BATCH_TOKENS: usize = 128;

/// A model in memory.
pub(crate) struct LocalModel {
    folder: Folder,
    name: String,
    digest: Digest,
    tokenizer: TextTokenizer,
    encoder: Encoder,
    level: Level,
    threads: NonZeroUsize,
}

enum Encoder {
    Transformer(Box<Transformer>, Pooling),
    Static(StaticModel),
}

impl LocalModel {
    /// Loads the model in a folder; `name` is what it is called in adapter files.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] when a file is missing, damaged, or of a model that cannot be run.
    pub(crate) fn load(
        path: &Path,
        name: String,
        level: Level,
        threads: NonZeroUsize,
    ) -> Result<Self, Failure> {
        let folder = Folder::open(path)?;
        let (tokenizer_path, tokenizer) = folder.required("tokenizer.json")?;
        let file = TensorFile::read(&folder.tensor_file()?)?;
        let tensors = file.tensors()?;
        let mut settings = TokenSettings {
            most_tokens: folder.most_tokens,
            lower_case: folder.lower_case,
            ..TokenSettings::default()
        };
        let mut hash = Sha256::new_with_prefix(DIGEST_TAG);
        let encoder = match folder.kind {
            Kind::Transformer(pooling) => {
                let (path, bytes) = folder.required("config.json")?;
                absorb(&mut hash, &bytes);
                let config = Config::parse(&path, &bytes)?;
                let most = config.most_tokens();
                settings.most_tokens = Some(settings.most_tokens.map_or(most, |wanted| wanted.min(most)));
                settings.special = true;
                Encoder::Transformer(Box::new(Transformer::load(config, &tensors, level)?), pooling)
            }
            Kind::Model2Vec => {
                let vocabulary = Vocabulary::parse(&tokenizer_path, &tokenizer)?;
                settings.dropped = vocabulary.unknown;
                settings.most_chars = settings.most_tokens.map(|most| most * vocabulary.median_chars);
                Encoder::Static(StaticModel::load(&tensors)?)
            }
            Kind::StaticEmbedding => {
                settings.own_limit = true;
                Encoder::Static(StaticModel::load(&tensors)?)
            }
        };
        let how = format!("{:?} {} {settings:?}", folder.kind, folder.normalize);
        for part in [&tokenizer[..], file.bytes(), how.as_bytes()] {
            absorb(&mut hash, part);
        }
        let tokenizer = TextTokenizer::parse(&tokenizer_path, &tokenizer, settings)?;
        let digest = hash.finalize().into();
        Ok(Self { folder, name, digest, tokenizer, encoder, level, threads })
    }

    /// Runs `work` for every index below `count` on all cores; `done` gets the results as they come, in any order.
    fn spread<T: Send>(
        &self,
        count: usize,
        work: impl Fn(usize, &mut Buffers) -> Result<T, Failure> + Sync,
        mut done: impl FnMut(usize, T) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let next = AtomicUsize::new(0);
        let (sender, results) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.threads.get().min(count) {
                let (sender, next, work) = (sender.clone(), &next, &work);
                scope.spawn(move || {
                    let mut buffers = Buffers::default();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        // Nobody listens any more after a failure.
                        if index >= count || sender.send((index, work(index, &mut buffers))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            results.into_iter().try_for_each(|(index, result)| done(index, result?))
        })
    }

    /// The vectors of some texts, text after text.
    fn vectors(&self, texts: &[&[u32]], buffers: &mut Buffers) -> Result<Vec<f32>, Failure> {
        let mut vectors = Vec::with_capacity(texts.len() * self.dim());
        match &self.encoder {
            Encoder::Transformer(transformer, pooling) => {
                let hidden = transformer.config().hidden;
                let mut states = transformer.run(texts, buffers)?;
                for text in texts {
                    let (own, rest) = states.split_at(text.len() * hidden);
                    vectors.extend(pooling.apply(own, hidden));
                    states = rest;
                }
            }
            Encoder::Static(model) => {
                for text in texts {
                    vectors.extend(model.mean(text)?);
                }
            }
        }
        if self.folder.normalize {
            normalize_rows(self.level, &mut vectors, self.dim())?;
        }
        Ok(vectors)
    }

    fn dim(&self) -> usize {
        match &self.encoder {
            Encoder::Transformer(transformer, _) => transformer.config().hidden,
            Encoder::Static(model) => model.dim(),
        }
    }

    fn embed_window(
        &self,
        first: usize,
        texts: &[&str],
        done: &mut dyn FnMut(Embedded<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        const TEXTS: usize = 64;
        let mut tokens: Vec<Tokens> = Vec::with_capacity(texts.len());
        tokens.resize_with(texts.len(), || Tokens { ids: Vec::new(), cut_off: false });
        self.spread(
            texts.len().div_ceil(TEXTS),
            |group, _| {
                texts.iter().skip(group * TEXTS).take(TEXTS).map(|text| self.tokenizer.tokens(text)).collect()
            },
            |group, result: Vec<Tokens>| {
                tokens.iter_mut().skip(group * TEXTS).zip(result).for_each(|(place, tokens)| *place = tokens);
                Ok(())
            },
        )?;
        let batches = batches(&tokens);
        self.spread(
            batches.len(),
            |batch, buffers| {
                let texts: Vec<&[u32]> = batches[batch].iter().map(|&text| &tokens[text].ids[..]).collect();
                self.vectors(&texts, buffers)
            },
            |batch, vectors| {
                let rows = vectors.chunks_exact(self.dim());
                batches[batch].iter().zip(rows).try_for_each(|(&text, vector)| {
                    done(Embedded { text: first + text, vector, cut_off: tokens[text].cut_off })
                })
            },
        )
    }
}

impl Model for LocalModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn query_prefix(&self) -> Option<&str> {
        self.folder.query_prefix.as_deref()
    }

    fn document_prefix(&self) -> Option<&str> {
        self.folder.document_prefix.as_deref()
    }

    fn embed(
        &self,
        texts: &[&str],
        done: &mut dyn FnMut(Embedded<'_>) -> Result<(), Failure>,
    ) -> Result<(), Stop> {
        for (window, texts) in texts.chunks(WINDOW).enumerate() {
            self.embed_window(window * WINDOW, texts, done)?;
        }
        Ok(())
    }
}

/// Adds a part to a hash such that no two lists of parts give the same bytes.
fn absorb(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

/// Texts of similar length together, the longest first, so that no thread is left with a long one at the end.
fn batches(tokens: &[Tokens]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|&text| core::cmp::Reverse(tokens[text].ids.len()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for text in order {
        let length = tokens[text].ids.len().max(1);
        match batches.last_mut() {
            Some(batch) if length <= room => batch.push(text),
            _ => {
                batches.push(vec![text]);
                room = BATCH_TOKENS;
            }
        }
        room = room.saturating_sub(length);
    }
    batches
}
