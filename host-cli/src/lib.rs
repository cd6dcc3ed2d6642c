//! What `host-cli` is made of.
//!
//! The binary reads data sets and vectors, trains and evaluates query adapters and writes files; this library
//! holds the parts, so that tests and other programs can call them one by one.

// Whatever is in a file is an error that says what to do, if it cannot be used.
#![cfg_attr(not(test), warn(clippy::expect_used, clippy::todo, clippy::unimplemented, clippy::unreachable))]

pub mod adapter_file;
pub mod apply;
pub mod auto;
mod averaging;
mod batches;
pub mod check;
pub mod checkpoint;
pub mod claims;
pub mod compare;
pub mod config;
mod contents;
pub mod dataset;
pub mod defects;
mod distinct;
pub mod embed;
mod ends;
pub mod evaluate;
pub mod explain;
pub mod export;
mod failpoints;
pub mod failure;
pub mod files;
pub mod fit;
pub mod graded;
pub mod ids;
pub mod import;
pub mod inspect;
pub mod interrupts;
mod json;
pub mod json_lines;
pub mod judging;
pub mod lint;
mod lists;
pub mod manual;
pub mod metrics;
pub mod normalized_documents;
pub mod options;
pub mod oracle;
pub mod parallel;
mod per_query;
mod precondition;
pub mod qrels;
pub mod quantize;
pub mod ranking;
pub mod report;
mod report_page;
pub mod retrieval_task;
pub mod run_log;
pub mod significance;
#[cfg(target_os = "linux")]
pub mod spill;
pub mod synthesize;
pub mod texts;
pub mod train;
pub mod trec;
pub mod vector_source;
pub mod vectors;
