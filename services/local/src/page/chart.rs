//! Charts as SVG: pictures for the page, and for whoever asks for one with `curl`.
//!
//! plotters draws on a canvas whose unit is a quarter of a pixel, since it places everything at whole
//! units. The picture's root says in words and in JSON (`<metadata>`) what is drawn and where, so that
//! the page needs no second request, and a reader of screens no eyes.

mod axis;
mod bars;
mod heat;
mod lines;
mod picture;
mod theme;

pub(super) use bars::{Bars, bars};
pub(super) use heat::{Bucket, Column, Heat, heat};
pub(super) use lines::{Band, Curve, Lines, lines};
pub(super) use picture::{DrawError, Frame, Reading, hex};
pub(super) use theme::{DARK, LIGHT, Theme};

#[cfg(test)]
mod tests;
