//! The dashboard on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Wrap};

use super::state::{State, thinned};
use crate::format::number;

/// Points of a curve: more cannot be told apart.
const POINTS: usize = 400;

/// Draws everything.
pub fn draw(frame: &mut Frame, state: &State) {
    let rows = [Constraint::Length(3), Constraint::Min(8), Constraint::Length(3), Constraint::Min(5)];
    let [head, curves, gauge, samples] = Layout::vertical(rows).areas(frame.area());
    draw_head(frame, head, state);
    let [left, right] = Layout::horizontal([Constraint::Percentage(50); 2]).areas(curves);
    let loss = format!("{} objective, nats/token", state.objective);
    draw_curve(frame, left, &loss, &state.loss, Color::Cyan);
    match &state.bound {
        Some((name, values)) => draw_curve(frame, right, name, values, Color::Green),
        None => draw_curve(frame, right, "validation", &[], Color::Green),
    }
    draw_gauge(frame, gauge, state);
    draw_samples(frame, samples, state);
}

fn draw_head(frame: &mut Frame, area: Rect, state: &State) {
    let status = match state.stopping {
        true => "stopping after this step, with a checkpoint; q again quits at once",
        false => state.status.as_str(),
    };
    let lines = vec![
        Line::styled(format!("{}: {status}", state.title), Style::new().add_modifier(Modifier::BOLD)),
        Line::raw(state.sizes.as_str()),
        Line::raw(state.details.as_str()),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_curve(frame: &mut Frame, area: Rect, name: &str, points: &[(f64, f64)], colour: Color) {
    let block = Block::bordered().title(name);
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|point| point.1.is_finite()).collect();
    let data = thinned(&finite, POINTS);
    let (Some(first), Some(last)) = (data.first(), data.last()) else {
        let empty = Paragraph::new("no values yet").block(block);
        return frame.render_widget(empty, area);
    };
    let low = data.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = data.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let margin = if high > low { 0.0 } else { 0.5 };
    let steps = [first.0, last.0.max(first.0 + 1.0)];
    let values = [low - margin, high + margin];
    let set = Dataset::default()
        .marker(Marker::Braille)
        .graph_type(GraphType::Line)
        .style(Style::new().fg(colour))
        .data(&data);
    let chart = Chart::new(vec![set])
        .block(block)
        .x_axis(Axis::default().bounds(steps).labels(steps.map(|step| format!("{step:.0}"))))
        .y_axis(Axis::default().bounds(values).labels(values.map(number)));
    frame.render_widget(chart, area);
}

fn draw_gauge(frame: &mut Frame, area: Rect, state: &State) {
    let (ratio, label) = state.gauge();
    let block = Block::bordered().title("steps").title_bottom(" q stops with a checkpoint ");
    let gauge =
        Gauge::default().block(block).gauge_style(Style::new().fg(Color::Blue)).ratio(ratio).label(label);
    frame.render_widget(gauge, area);
}

fn draw_samples(frame: &mut Frame, area: Rect, state: &State) {
    let mut lines: Vec<Line> = state.figure_lines().into_iter().map(Line::raw).collect();
    for sample in &state.samples {
        lines.push(Line::raw(""));
        lines.extend(
            sample.lines().map(|line| Line::styled(line, Style::new().add_modifier(Modifier::ITALIC))),
        );
    }
    let block = Block::bordered().title("last validation and its samples");
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::format::tests::{bound, joint};
    use submask::train::event::{Event, StepRecord, ValidationRecord};

    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let text = terminal.backend().to_string();
        text.lines().map(|line| line.trim_matches('"').trim_end().to_owned() + "\n").collect()
    }

    fn state() -> State {
        let mut state = State::new("runs/dictionary");
        let seconds = Duration::from_secs;
        let start = Event::Started {
            parameters: 2_900_000,
            train_tokens: Some(1_200_000),
            valid_tokens: Some(24_000),
            fidelity: None,
            step: 0,
            steps: 100,
        };
        state.apply(&start, seconds(0));
        for step in 1..=50 {
            let record = StepRecord {
                step,
                loss_nats_per_token: 7.0 - step as f64 / 20.0,
                objective: "marginal".into(),
                gradient_norm: 0.5,
                learning_rate: 1e-3,
                tokens: 2048 * step,
                tokens_per_second: 4100.0,
            };
            state.apply(&Event::Step(record), seconds(step));
        }
        let (figures, samples) = (vec![bound(), joint()], vec!["harbour: a place for ships".into()]);
        state.apply(&Event::Validation(ValidationRecord { step: 50, figures, samples }), seconds(51));
        state
    }

    #[test]
    fn the_dashboard_shows_curves_rate_and_samples() {
        insta::assert_snapshot!(screen(&state(), 80, 24), @r"
        runs/dictionary: training
        2.9M weights, 1.2M training tokens, 24.0k validation tokens
        loss 4.5000 nats/token, 4.1k tokens/s, learning rate 1.00e-3, gradient norm 0.50
        ┌marginal objective, nats/token────────┐┌nelbo_subtoken, bits per character────┐
        │6.9500│⠉⠒⠢⠤⢄⣀                         ││3.7123│                               │
        │      │      ⠉⠑⠒⠢⢄⣀⡀                  ││      │                               │
        │      │            ⠈⠑⠒⠢⠤⢄⡀            ││      │⠄                              │
        │      │                  ⠈⠉⠑⠒⠤⢄⣀      ││      │                               │
        │4.5000│                         ⠉⠉⠒⠢⠤⣀││2.7123│                               │
        │      └───────────────────────────────││      └───────────────────────────────│
        │      1                             50││     50                             51│
        └──────────────────────────────────────┘└──────────────────────────────────────┘
        ┌steps─────────────────────────────────────────────────────────────────────────┐
        │███████████████████████50/100, 1.0000 steps/s, 50s left                       │
        └ q stops with a checkpoint ───────────────────────────────────────────────────┘
        ┌last validation and its samples───────────────────────────────────────────────┐
        │nelbo_subtoken 3.2123 ± 0.0123 bits per character (upper bound)               │
        │joint_objective 2.5000 nats per token (surrogate, no likelihood)              │
        │                                                                              │
        │harbour: a place for ships                                                    │
        │                                                                              │
        │                                                                              │
        │                                                                              │
        └──────────────────────────────────────────────────────────────────────────────┘
        ");
    }

    #[test]
    fn nothing_happened_yet_and_tiny_screens_are_fine() {
        assert!(screen(&State::new("runs/a"), 80, 24).contains("no values yet"));
        for (width, height) in [(1, 1), (10, 3), (300, 80)] {
            screen(&state(), width, height);
        }
        let mut broken = state();
        broken.loss.push((51.0, f64::NAN));
        screen(&broken, 80, 24);
    }
}
