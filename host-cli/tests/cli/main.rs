//! The command line from end to end, through the real binary.

mod apply;
mod auto;
mod check;
#[cfg(unix)]
mod checkpoint;
#[cfg(unix)]
mod claims;
mod compare;
mod configuration;
mod documentation;
#[cfg(all(feature = "models", feature = "endpoint"))]
mod embed;
mod evaluate;
mod explain;
mod export;
#[cfg(feature = "models")]
mod hub;
mod import;
mod inspect;
mod lint;
mod manual;
mod output;
mod quantize;
mod refusals;
mod report;
mod scale;
#[cfg(all(feature = "models", feature = "endpoint"))]
mod service;
mod support;
mod train;
mod trec;
