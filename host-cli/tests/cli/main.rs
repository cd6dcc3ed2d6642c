//! The command line from end to end, through the real binary.

mod apply;
mod check;
mod documentation;
mod evaluate;
mod inspect;
mod output;
mod refusals;
mod scale;
mod support;
mod train;
