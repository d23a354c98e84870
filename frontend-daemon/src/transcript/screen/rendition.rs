//! Attributes of characters (SGR): what a program asks for, in the words that the emulator knows.

use std::fmt::Write as _;

/// The parameters of `CSI … m`, written so that the emulator reads no colour as an attribute.
///
/// It takes the colour of an underline for attributes, and no colour with a colour space.
pub(super) fn simplified(params: &[&[u16]]) -> String {
    let mut text = String::from("\x1b[");
    let mut params = params.iter().copied();
    while let Some(param) = params.next() {
        match param {
            [4, 0] => push(&mut text, &[24]),
            [4, ..] | [21] => push(&mut text, &[4]),
            [38 | 48, 2, _, red, green, blue, ..] => {
                push(&mut text, &[param.first().copied().unwrap_or(38), 2, *red, *green, *blue]);
            }
            [38 | 48 | 58] => {
                let kind = params.next().unwrap_or_default();
                let count = if kind == [2] { 3 } else { 1 };
                let mut colour = vec![param.first().copied().unwrap_or(58)];
                colour.extend(kind);
                colour.extend(params.by_ref().take(count).flatten());
                if param != [58] {
                    push(&mut text, &colour);
                }
            }
            [58, ..] => {}
            other => push(&mut text, other),
        }
    }
    // Without parameters it would end all attributes.
    if text.ends_with('[') {
        text.clear();
    } else {
        text.push('m');
    }
    text
}

fn push(text: &mut String, numbers: &[u16]) {
    // A colour of several numbers stays one parameter.
    for (place, number) in numbers.iter().enumerate() {
        let before = if text.ends_with('[') {
            ""
        } else if place > 0 {
            ":"
        } else {
            ";"
        };
        if write!(text, "{before}{number}").is_err() {
            break;
        }
    }
}

/// The attributes of a cell, or those in force.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Rendition {
    /// Bold, dim, italic, underlined, inverse.
    on: [bool; 5],
    foreground: vt100::Color,
    background: vt100::Color,
}

impl Rendition {
    pub(super) fn of_cell(cell: &vt100::Cell) -> Self {
        Self {
            on: [cell.bold(), cell.dim(), cell.italic(), cell.underline(), cell.inverse()],
            foreground: cell.fgcolor(),
            background: cell.bgcolor(),
        }
    }

    /// What can be seen of them: only the background of an empty cell.
    pub(super) fn of_visible(cell: &vt100::Cell) -> Self {
        if cell.has_contents() {
            Self::of_cell(cell)
        } else {
            Self { background: cell.bgcolor(), ..Self::default() }
        }
    }

    /// Those in force.
    pub(super) fn of_pen(screen: &vt100::Screen) -> Self {
        Self {
            on: [screen.bold(), screen.dim(), screen.italic(), screen.underline(), screen.inverse()],
            foreground: screen.fgcolor(),
            background: screen.bgcolor(),
        }
    }

    /// Writes the sequence that chooses them, whatever was in force.
    pub(super) fn write(self, text: &mut String) {
        text.push_str("\x1b[0");
        for (number, _) in [1, 2, 3, 4, 7].into_iter().zip(self.on).filter(|(_, on)| *on) {
            push(text, &[number]);
        }
        for (number, colour) in [(38, self.foreground), (48, self.background)] {
            match colour {
                vt100::Color::Default => {}
                vt100::Color::Idx(index @ 0..8) => push(text, &[number - 8 + u16::from(index)]),
                vt100::Color::Idx(index @ 8..16) => push(text, &[number + 44 + u16::from(index)]),
                vt100::Color::Idx(index) => push_separate(text, &[number, 5, index.into()]),
                vt100::Color::Rgb(red, green, blue) => {
                    push_separate(text, &[number, 2, red.into(), green.into(), blue.into()]);
                }
            }
        }
        text.push('m');
    }
}

fn push_separate(text: &mut String, numbers: &[u16]) {
    for number in numbers {
        push(text, &[*number]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simple(params: &[&[u16]]) -> String {
        simplified(params)
    }

    #[test]
    fn the_colour_of_an_underline_is_no_attribute() {
        assert_eq!(simple(&[&[58], &[5], &[1], &[3]]), "\x1b[3m");
        assert_eq!(simple(&[&[58], &[2], &[1], &[2], &[3]]), "");
        assert_eq!(simple(&[&[58, 5, 1], &[4, 3]]), "\x1b[4m");
    }

    #[test]
    fn colours_stay_whole() {
        assert_eq!(simple(&[&[38], &[5], &[1], &[7]]), "\x1b[38:5:1;7m");
        assert_eq!(simple(&[&[48, 2, 0, 1, 2, 3]]), "\x1b[48:2:1:2:3m");
        assert_eq!(simple(&[&[0], &[1]]), "\x1b[0;1m");
    }
}
