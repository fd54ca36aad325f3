//! Colours. Lines and texts keep to WCAG's contrast on the panel they are drawn on, and lines can be told
//! apart without red and green.

use plotters::style::RGBColor;

/// The colours of a chart.
#[derive(Debug)]
pub(in crate::page) struct Theme {
    pub(super) panel: RGBColor,
    pub(super) text: RGBColor,
    pub(super) grid: RGBColor,
    pub(super) mark: RGBColor,
    /// p50, p95, p99 and max.
    pub(in crate::page) quantiles: [RGBColor; 4],
    /// Lines beside each other, after Okabe and Ito, made darker or lighter for the panel.
    pub(in crate::page) lines: [RGBColor; 8],
    /// From few to many.
    pub(super) heat: [RGBColor; 9],
}

const fn rgb(hex: u32) -> RGBColor {
    RGBColor((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// On white.
pub(in crate::page) static LIGHT: Theme = Theme {
    panel: rgb(0xff_ffff),
    text: rgb(0x57_606f),
    grid: rgb(0xe6_e9ee),
    mark: rgb(0x9a_6700),
    quantiles: [rgb(0x0b_8577), rgb(0x1f_6fd6), rgb(0x8b_3fc4), rgb(0x7d_8694)],
    lines: [
        rgb(0x1f_6fd6),
        rgb(0xc8_5200),
        rgb(0x0b_8577),
        rgb(0xa8_4b8a),
        rgb(0x94_6800),
        rgb(0x2a_8bb8),
        rgb(0x5b_6472),
        rgb(0x6e_4fd0),
    ],
    heat: [
        rgb(0xe3_eefb),
        rgb(0xc6_dcf4),
        rgb(0xa3_c6ec),
        rgb(0x7b_acdf),
        rgb(0x55_8fce),
        rgb(0x3b_72ba),
        rgb(0x35_559f),
        rgb(0x33_3a7f),
        rgb(0x2b_215b),
    ],
};

/// On near black.
pub(in crate::page) static DARK: Theme = Theme {
    panel: rgb(0x16_1b24),
    text: rgb(0x9a_a6b8),
    grid: rgb(0x27_2f3d),
    mark: rgb(0xe0_b13c),
    quantiles: [rgb(0x2f_c4ae), rgb(0x5a_a2f7), rgb(0xc2_8bf0), rgb(0x7f_8b9e)],
    lines: [
        rgb(0x5a_a2f7),
        rgb(0xf2_8d4f),
        rgb(0x2f_c4ae),
        rgb(0xe0_8bc2),
        rgb(0xe0_b13c),
        rgb(0x7c_c6ee),
        rgb(0xa3_adbb),
        rgb(0xa9_93f5),
    ],
    heat: [
        rgb(0x1d_2a40),
        rgb(0x1f_3a5f),
        rgb(0x22_4d80),
        rgb(0x29_649f),
        rgb(0x38_7fba),
        rgb(0x52_9dcf),
        rgb(0x7a_bbe0),
        rgb(0xae_d8ee),
        rgb(0xee_f7fb),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance as WCAG 2 defines it.
    fn luminance(RGBColor(r, g, b): RGBColor) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b)
    }

    fn contrast(a: RGBColor, b: RGBColor) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn texts_have_a_contrast_of_4_5_and_lines_of_3() {
        for theme in [&LIGHT, &DARK] {
            assert!(contrast(theme.text, theme.panel) >= 4.5, "{}", contrast(theme.text, theme.panel));
            assert!(contrast(theme.mark, theme.panel) >= 4.5, "{}", contrast(theme.mark, theme.panel));
            for line in theme.lines.iter().chain(&theme.quantiles) {
                assert!(contrast(*line, theme.panel) >= 3.0, "{line:?}: {}", contrast(*line, theme.panel));
            }
        }
    }

    #[test]
    fn more_is_further_from_the_panel() {
        for theme in [&LIGHT, &DARK] {
            let steps = theme.heat.map(|colour| contrast(colour, theme.panel));
            assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
        }
    }
}
