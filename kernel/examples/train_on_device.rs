//! A device that learns: which document its user took for which query. Builds for a computer, where it prints, and for bare
//! metal:
//!
//!     cargo run -p query-adapter --example train_on_device --features train
//!     scripts/cross/build_examples.sh thumbv7em-none-eabihf

#![cfg_attr(target_os = "none", no_std, no_main)]

use query_adapter::{
    Batch, Documents, Error, Lanes, Level, Linear, Optimizer, Schedule, Trainer, linear_len, scratch_len,
};

/// Components of a vector.
const DIM: usize = 16;
/// Queries of a step, each with the document that answers it; those of the others are what it is told apart from.
const ROWS: usize = 4;
const WEIGHT: usize = linear_len(DIM, DIM, false);

/// All the memory that learning takes, in a static or wherever the program has room.
pub struct Memory {
    weight: [Lanes; WEIGHT],
    m: [Lanes; WEIGHT],
    v: [Lanes; WEIGHT],
    scratch: [Lanes; scratch_len(ROWS, ROWS, DIM, DIM)],
}

impl Memory {
    /// Before the first step.
    pub const NEW: Self = Self {
        weight: [Lanes::ZERO; WEIGHT],
        m: [Lanes::ZERO; WEIGHT],
        v: [Lanes::ZERO; WEIGHT],
        scratch: [Lanes::ZERO; scratch_len(ROWS, ROWS, DIM, DIM)],
    };
}

/// Makes steps on the same pairs: the loss before the first step, and before the last.
///
/// `queries` and `documents` are `ROWS × DIM`, row-major; document `i` answers query `i`.
///
/// # Errors
/// When a length or a value is not what the kernel takes; nothing of the weight is changed by a step that is refused.
pub fn learn(memory: &mut Memory, queries: &[f32], documents: &[f32], steps: u32) -> Result<[f32; 2], Error> {
    let Memory { weight, m, v, scratch } = memory;
    let identity = Linear::identity(DIM, DIM, false, &mut weight[..], Level::baseline())?;
    let mut trainer =
        Trainer::new(identity, &mut m[..], &mut v[..], 20.0, Optimizer::adamw(0.01), Schedule::CONSTANT)?;
    let batch = Batch {
        queries,
        gradient_operand: None,
        documents: Documents::Rows(documents),
        targets: &[0, 1, 2, 3],
        weights: &[1.0; ROWS],
        mask: &[],
    };
    let mut losses = [trainer.step(&batch, scratch)?.loss; 2];
    for _ in 1..steps {
        losses[1] = trainer.step(&batch, scratch)?.loss;
    }
    Ok(losses)
}

#[cfg(not(target_os = "none"))]
fn main() -> Result<(), Error> {
    // Each document has the components of its query one place further on.
    let mut queries = [0.0; ROWS * DIM];
    let mut documents = [0.0; ROWS * DIM];
    for row in 0..ROWS {
        queries[row * DIM + row] = 1.0;
        documents[row * DIM + row + 1] = 1.0;
    }
    let mut memory = Memory::NEW;
    let [first, last] = learn(&mut memory, &queries, &documents, 100)?;
    println!("loss {first:.4} before, {last:.4} after 100 steps");
    assert!(last < first / 10.0);
    Ok(())
}

/// Nothing above panics; a program for bare metal has a handler all the same.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
