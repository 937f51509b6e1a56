//! The second job: a picture of a part of the Mandelbrot set, in tiles.

use std::{
    fmt,
    fs::{self, File},
    io::BufWriter,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fractal::{MandelbrotTile, Tile};
use futures::TryStreamExt;
use palfrey_host::{Runtime, directive::*, task::Digest};

use crate::progress;

/// A spiral in the seahorse valley, between the set's body and its head.
const CENTER: (f64, f64) = (-0.7463, 0.1137);
const SPAN: f64 = 0.008;
const MAX_ITERATIONS: u32 = 1500;

/// Pixels of a tile, in both directions.
const TILE: u32 = 64;

/// Bytes of a pixel.
const PIXEL: usize = 3;

/// A square picture, as rows of pixels.
#[derive(Debug)]
pub(crate) struct Picture {
    size: u32,
    tiles: usize,
    pixels: Vec<u8>,
    time: Duration,
}

/// Renders the picture: the tiles come back as they finish, and are put where they belong.
pub(crate) async fn render(runtime: &Runtime, size: u32) -> anyhow::Result<Picture> {
    let started = Instant::now();
    let operation =
        MandelbrotTile { width: size, height: size, max_iterations: MAX_ITERATIONS, center: CENTER, span: SPAN };
    let tiles = tiles(size);
    let options = JobOptions::default().on_progress(progress::bar("tiles"));
    let mut rendered = IndexedStream::from(tiles.clone()).map(&operation).options(options).run(runtime).await?;
    let mut pixels = vec![0; PIXEL * size as usize * size as usize];
    while let Some((index, part)) = rendered.try_next().await? {
        place(&mut pixels, size, tiles[index], &part);
    }
    Ok(Picture { size, tiles: tiles.len(), pixels, time: started.elapsed() })
}

/// The whole picture, in tiles.
fn tiles(size: u32) -> Vec<Tile> {
    let starts = || (0..size).step_by(TILE as usize);
    let length = |start| TILE.min(size - start);
    starts().flat_map(|y| starts().map(move |x| Tile { x, y, width: length(x), height: length(y) })).collect()
}

fn place(pixels: &mut [u8], size: u32, tile: Tile, part: &[u8]) {
    let row = PIXEL * tile.width as usize;
    for (y, part) in (tile.y..).zip(part.chunks_exact(row)) {
        let start = PIXEL * (y as usize * size as usize + tile.x as usize);
        pixels[start..start + row].copy_from_slice(part);
    }
}

impl Picture {
    /// Equal for equal pixels.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.pixels)
    }

    /// Writes it as PNG.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let cannot_write = || format!("cannot write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(cannot_write)?;
        }
        let file = File::create(path).with_context(cannot_write)?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.size, self.size);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().with_context(cannot_write)?;
        writer.write_image_data(&self.pixels).with_context(cannot_write)?;
        writer.finish().with_context(cannot_write)
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, tiles, time, .. } = self;
        write!(
            f,
            "Rendered a spiral of the Mandelbrot set, {size} × {size} pixels in {tiles} tiles, in {:.2} s.",
            time.as_secs_f64()
        )
    }
}
