//! Compresses the price catalogue, which is kept readable in the repository.

use std::env;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::ZlibEncoder;

const CATALOGUE: &str = "prices/genai-prices-0.2.3.json";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={CATALOGUE}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("catalogue.json.zz");
    let mut encoder = ZlibEncoder::new(fs::File::create(out)?, Compression::best());
    encoder.write_all(&fs::read(CATALOGUE)?)?;
    encoder.finish()?.flush()?;
    Ok(())
}
