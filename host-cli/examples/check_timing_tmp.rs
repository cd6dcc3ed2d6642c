fn main(){ let t=std::time::Instant::now(); let r=host_cli::check::run(None,None).unwrap(); println!("{}\n{:?}", r.table(), t.elapsed()); }
