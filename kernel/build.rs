//! Sets `cortex_m_fpu` for Cortex-M with a floating-point unit, which no `cfg` of the stable compiler tells from the
//! Cortex-R that have no fused multiply-add. For any other target, software gives the same bits.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(cortex_m_fpu)");
    let target = std::env::var("TARGET").unwrap_or_default();
    if ["thumbv7em-none-eabihf", "thumbv8m.main-none-eabihf"].contains(&target.as_str()) {
        println!("cargo::rustc-cfg=cortex_m_fpu");
    }
}
