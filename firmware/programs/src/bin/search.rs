//! Documents in flash, searched where they lie.

#![no_std]
#![no_main]

use query_adapter::{Level, include_adapter};
use query_adapter_programs::{boundary, run, succeed};
use workloads::{Corpus, search_documents};

macro_rules! panels {
    ($name:literal) => {
        bytemuck::try_cast_slice(include_adapter!(concat!(env!("OUT_DIR"), "/", $name))).unwrap_or_default()
    };
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let corpus = Corpus {
        wide: panels!("wide.bin"),
        half: panels!("half.bin"),
        byte: panels!("byte.bin"),
        scales: panels!("scales.bin"),
    };
    run(["search-f32", "search-f16", "search-int8"], || {
        search_documents(Level::baseline(), corpus, boundary)
    });
    succeed()
}
