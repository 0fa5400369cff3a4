//! A text while it resolves: masked, partly known and clean tokens, redrawn in place or frame by frame.

use std::fmt::Write;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use ratatui::text::Span;

use submask::model::{Architecture, Cell, Frame, Generated};

use crate::failure::Failure;
use crate::format::one_line;
use crate::output;

/// How frames are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// With colours; without them the signs alone tell the states apart.
    pub colour: bool,
    /// Columns and rows to redraw in; none: frames follow each other and lines are not broken.
    pub screen: Option<(usize, usize)>,
}

impl Style {
    /// What fits standard output.
    pub fn for_stdout() -> Self {
        let terminal = stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let size = ratatui::crossterm::terminal::size().ok().filter(|size| size.0 > 0 && size.1 > 2);
        let screen = size.filter(|_| terminal).map(|(columns, rows)| (columns.into(), rows.into()));
        Self { colour: terminal && !no_colour, screen }
    }
}

/// Turns frames into what is written.
#[derive(Debug)]
pub struct Painter {
    style: Style,
    drawn: usize,
}

const MASKED: &str = "▁▁▁";

impl Painter {
    /// A painter that has drawn nothing yet.
    pub fn new(style: Style) -> Self {
        Self { style, drawn: 0 }
    }

    /// The text of the next frame, moving back over the last one where it is redrawn in place.
    pub fn paint(&mut self, frame: &Frame) -> String {
        let mut lines = vec![header(frame)];
        lines.extend(self.lines(frame));
        let Some((_, rows)) = self.style.screen else {
            return format!("{}\n\n", lines.join("\n"));
        };
        // The cursor cannot move back over what has scrolled away.
        if lines.len() > rows - 1 {
            lines.truncate(rows - 2);
            lines.push("…".to_owned());
        }
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A\r\x1b[J", self.drawn);
        }
        self.drawn = lines.len();
        text + &lines.join("\n") + "\n"
    }

    /// The cells, broken into lines where there is a screen.
    fn lines(&self, frame: &Frame) -> Vec<String> {
        let width = self.style.screen.map_or(usize::MAX, |(columns, _)| columns);
        let mut lines = vec![String::new()];
        let mut column = 0;
        for cell in &frame.cells {
            for piece in pieces(&sign(cell), width) {
                let piece_width = Span::raw(piece.as_str()).width();
                if column + piece_width > width {
                    lines.push(String::new());
                    column = 0;
                }
                column += piece_width;
                if let Some(line) = lines.last_mut() {
                    line.push_str(&self.coloured(cell, &piece));
                }
            }
        }
        lines
    }

    fn coloured(&self, cell: &Cell, text: &str) -> String {
        let code = match cell {
            _ if !self.style.colour => return text.to_owned(),
            Cell::Masked => "90",
            Cell::Partial { .. } => "33",
            Cell::Clean { fresh: true, .. } => "1;32",
            Cell::Clean { fresh: false, .. } => return text.to_owned(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn header(frame: &Frame) -> String {
    let clean = frame.cells.iter().filter(|cell| matches!(cell, Cell::Clean { .. })).count();
    let partial = frame.cells.iter().filter(|cell| matches!(cell, Cell::Partial { .. })).count();
    let masked = frame.cells.len() - clean - partial;
    let Frame { step, steps, .. } = frame;
    format!("evaluation {step}/{steps}: {clean} clean, {partial} partial, {masked} masked")
}

fn sign(cell: &Cell) -> String {
    match cell {
        Cell::Masked => MASKED.to_owned(),
        Cell::Partial { known, of } => format!("░{known}/{of}░"),
        Cell::Clean { text, .. } => one_line(text),
    }
}

/// Cuts a text that is wider than a line.
fn pieces(text: &str, width: usize) -> Vec<String> {
    if Span::raw(text).width() <= width {
        return vec![text.to_owned()];
    }
    text.chars().map(String::from).collect()
}

/// Replays how the texts came about; in place, it takes a few seconds.
pub fn show_traces(architecture: &Architecture, generated: &Generated) -> Result<(), Failure> {
    let style = Style::for_stdout();
    for (n, trajectory) in generated.trajectories.iter().enumerate() {
        let frames = architecture.frames(trajectory)?;
        if generated.trajectories.len() > 1 {
            output::write(&format!("text {n}\n"))?;
        }
        let pause = Duration::from_secs(6) / frames.len().max(1) as u32;
        let mut painter = Painter::new(style);
        for frame in &frames {
            output::write(&painter.paint(frame))?;
            if style.screen.is_some() {
                std::thread::sleep(pause.min(Duration::from_millis(150)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        let clean = |text: &str, fresh| Cell::Clean { text: text.into(), fresh };
        let partial = Cell::Partial { known: 1, of: 2 };
        Frame {
            step: 3,
            steps: 8,
            cells: vec![clean("the", false), Cell::Masked, partial, clean(" sea\n", true)],
        }
    }

    #[test]
    fn signs_tell_states_apart_without_colour() {
        let mut painter = Painter::new(Style { colour: false, screen: None });
        let text = painter.paint(&frame());
        assert_eq!(text, "evaluation 3/8: 2 clean, 1 partial, 1 masked\nthe▁▁▁░1/2░ sea⏎\n\n");
        assert_eq!(painter.paint(&frame()), text, "nothing is redrawn");
    }

    #[test]
    fn colours_are_added_to_the_signs() {
        let text = Painter::new(Style { colour: true, screen: None }).paint(&frame());
        assert!(text.contains("the\x1b[90m▁▁▁\x1b[0m\x1b[33m░1/2░\x1b[0m\x1b[1;32m sea⏎\x1b[0m"), "{text:?}");
    }

    #[test]
    fn a_screen_is_redrawn_in_place() {
        let mut painter = Painter::new(Style { colour: false, screen: Some((8, 10)) });
        let first = painter.paint(&frame());
        assert!(first.ends_with("\nthe▁▁▁\n░1/2░\n sea⏎\n"), "{first:?}");
        assert!(painter.paint(&frame()).starts_with("\x1b[4A\r\x1b[J"));
    }

    #[test]
    fn a_small_screen_is_never_overrun() {
        let mut painter = Painter::new(Style { colour: false, screen: Some((4, 4)) });
        let text = painter.paint(&frame());
        assert_eq!((text.lines().count(), text.lines().last()), (3, Some("…")));
    }
}
