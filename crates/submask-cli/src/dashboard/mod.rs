//! The full-screen view of a training run.

mod draw;
mod state;

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::failure::Failure;
use crate::stop::{STOPPED, Stop};
use state::State;
use submask::train::event::Event;

/// Runs `work` under a dashboard. `work` gets the function that tells the dashboard what happens; q or
/// Ctrl-C set `stop`, a second time they end the program.
pub fn watch<T>(
    title: &str,
    stop: &Stop,
    work: impl FnOnce(&mut dyn FnMut(&Event)) -> T,
) -> Result<T, Failure> {
    let (sender, receiver) = channel();
    let mut terminal = ratatui::try_init()?;
    let result = thread::scope(|scope| {
        let screen = scope.spawn(move || show(&mut terminal, title, &receiver, stop));
        // Training goes on when the screen is gone.
        let result = work(&mut |event: &Event| drop(sender.send(event.clone())));
        drop(sender);
        screen.join().map(|shown| (result, shown))
    });
    ratatui::restore();
    match result {
        Ok((result, Ok(()))) => Ok(result),
        Ok((_, Err(error))) => Err(Failure::from(error).context("the dashboard failed")),
        Err(_) => Err(Failure::failed("the dashboard failed")),
    }
}

/// Draws until the sender is gone.
fn show(
    terminal: &mut DefaultTerminal,
    title: &str,
    events: &Receiver<Event>,
    stop: &Stop,
) -> std::io::Result<()> {
    let start = Instant::now();
    let mut state = State::new(title);
    loop {
        loop {
            match events.try_recv() {
                Ok(event) => state.apply(&event, start.elapsed()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        state.stopping = stop.asked.load(Ordering::Relaxed);
        terminal.draw(|frame| draw::draw(frame, &state))?;
        if event::poll(Duration::from_millis(200))?
            && let Input::Key(key) = event::read()?
            && asks_to_stop(key)
            && stop.ask_or_quit()
        {
            ratatui::restore();
            std::process::exit(STOPPED.into());
        }
    }
}

fn asks_to_stop(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (control_c || key.code == KeyCode::Char('q'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_control_c_stop() {
        let plain = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
        assert!(asks_to_stop(plain('q')) && !asks_to_stop(plain('c')));
        assert!(asks_to_stop(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }
}
