//! The Mandelbrot set, in tiles.

use palfrey_sdk::{Blob, FatalError, Operation, RemoteExecute, Result, Schema};
use serde::{Deserialize, Serialize};

palfrey_sdk::registry!(MandelbrotTile);

/// Renders a tile of a picture of the Mandelbrot set, as rows of pixels of three bytes: red, green, blue.
///
/// It uses no functions that platforms round differently, so that every machine renders the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema, RemoteExecute)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct MandelbrotTile {
    /// Pixels of the whole picture, from left to right.
    pub width: u32,
    /// Pixels of the whole picture, from top to bottom.
    pub height: u32,
    /// Points that have not escaped after so many iterations are painted black.
    pub max_iterations: u32,
    /// The point in the middle of the picture: real and imaginary part.
    pub center: (f64, f64),
    /// Real parts from the left to the right edge.
    pub span: f64,
}

impl MandelbrotTile {
    /// The whole set, in a picture of that size.
    pub fn whole(width: u32, height: u32) -> Self {
        Self { width, height, max_iterations: 500, center: (-0.65, 0.0), span: 2.8 }
    }
}

/// Which part of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Schema)]
#[postcard(crate = palfrey_sdk::postcard_schema)]
pub struct Tile {
    /// Pixels left of it.
    pub x: u32,
    /// Pixels above it.
    pub y: u32,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

impl Operation for MandelbrotTile {
    type Input = Tile;
    type Output = Blob;

    fn execute(&self, tile: Tile) -> Result<Blob> {
        let inside = |start: u32, length: u32, limit: u32| start.checked_add(length).is_some_and(|end| end <= limit);
        if !inside(tile.x, tile.width, self.width) || !inside(tile.y, tile.height, self.height) {
            let message = format!("{tile:?} is not inside of a picture of {} × {} pixels", self.width, self.height);
            return Err(FatalError::msg(message).into());
        }
        let mut pixels = Vec::with_capacity(3 * tile.width as usize * tile.height as usize);
        let step = self.span / f64::from(self.width);
        let from_center = |pixel: u32, length: u32| (f64::from(pixel) + 0.5 - f64::from(length) / 2.0) * step;
        for y in tile.y..tile.y + tile.height {
            let imaginary = self.center.1 - from_center(y, self.height);
            for x in tile.x..tile.x + tile.width {
                let real = self.center.0 + from_center(x, self.width);
                pixels.extend(color(iterations(real, imaginary, self.max_iterations), self.max_iterations));
            }
        }
        Ok(pixels.into())
    }
}

/// Iterations of z² + c until it escapes; `max` if it does not.
fn iterations(real: f64, imaginary: f64, max: u32) -> u32 {
    // The main cardioid and the disc left of it, where nothing escapes: most of the work, saved.
    let quarter = (real - 0.25) * (real - 0.25) + imaginary * imaginary;
    let in_cardioid = quarter * (quarter + (real - 0.25)) <= 0.25 * imaginary * imaginary;
    let in_disc = (real + 1.0) * (real + 1.0) + imaginary * imaginary <= 0.0625;
    if in_cardioid || in_disc {
        return max;
    }
    let (mut x, mut y) = (0.0, 0.0);
    for iteration in 0..max {
        let (x2, y2) = (x * x, y * y);
        if x2 + y2 > 4.0 {
            return iteration;
        }
        y = 2.0 * x * y + imaginary;
        x = x2 - y2 + real;
    }
    max
}

/// Black inside; outside Bernstein polynomials, from dark blue over white to brown.
fn color(iterations: u32, max: u32) -> [u8; 3] {
    if iterations >= max {
        return [0; 3];
    }
    let t = (f64::from(iterations) / f64::from(max)).sqrt();
    let u = 1.0 - t;
    [9.0 * u * t * t * t, 15.0 * u * u * t * t, 8.5 * u * u * u * t].map(|share| (share * 255.0) as u8)
}
