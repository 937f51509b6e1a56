//! The operation as a function.

use fractal::{MandelbrotTile, Tile};
use palfrey_sdk::{Operation, OperationError, Result};

const BLACK: [u8; 3] = [0; 3];

fn render(picture: &MandelbrotTile, x: u32, y: u32, width: u32, height: u32) -> Result<Vec<u8>> {
    picture.execute(Tile { x, y, width, height }).map(Into::into)
}

#[test]
fn the_set_is_black_and_what_is_far_from_it_is_not() -> Result<()> {
    let picture = MandelbrotTile::whole(100, 100);
    let pixels = render(&picture, 0, 0, 100, 100)?;
    assert_eq!(pixels.len(), 3 * 100 * 100);
    let pixel = |x: usize, y: usize| pixels[3 * (100 * y + x)..][..3].to_vec();
    assert_eq!(pixel(60, 50), BLACK);
    assert_ne!(pixel(0, 0), BLACK);
    Ok(())
}

#[test]
fn tiles_fit_together() -> Result<()> {
    let picture = MandelbrotTile::whole(64, 48);
    let whole = render(&picture, 0, 0, 64, 48)?;
    let (upper, lower) = (render(&picture, 0, 0, 64, 20)?, render(&picture, 0, 20, 64, 28)?);
    assert_eq!([upper, lower].concat(), whole);
    let left = render(&picture, 0, 7, 5, 1)?;
    assert_eq!(left, whole[3 * 64 * 7..][..15]);
    Ok(())
}

#[test]
fn the_picture_is_symmetric_about_the_real_axis() -> Result<()> {
    let picture = MandelbrotTile::whole(40, 40);
    for y in 0..20 {
        assert_eq!(render(&picture, 0, y, 40, 1)?, render(&picture, 0, 39 - y, 40, 1)?, "row {y}");
    }
    Ok(())
}

#[test]
fn a_tile_that_leaves_the_picture_is_refused() {
    let picture = MandelbrotTile::whole(10, 10);
    for (x, y, width, height) in [(5, 0, 6, 1), (0, 10, 1, 1), (u32::MAX, 0, 2, 1)] {
        let error = render(&picture, x, y, width, height);
        assert!(
            matches!(&error, Err(OperationError::Fatal(error)) if error.to_string().contains("10 × 10")),
            "{error:?}"
        );
    }
}
