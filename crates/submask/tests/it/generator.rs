//! Requests that come and go: each is what it is alone, and none waits for a long one.

use submask::Unobserved;
use submask::backbone::dit::DitConfig;
use submask::data::Tokenizer;
use submask::model::{NetworkConfig, Request, Sampling, Session, Temperature, TextPrompt};
use submask::order::Order;
use submask::sampler::{Event, FinishedSequence, RevealUnit, SampleReport, WithDigits};

use crate::scores::{baseline, dit, exact, session};

fn blocks() -> NetworkConfig {
    let NetworkConfig::Diffusion(sizes) = dit(false) else { unreachable!("a transformer") };
    NetworkConfig::Diffusion(DitConfig { block_len: 4, ..sizes })
}

/// Requests that differ in everything, all of one sample.
fn requests(session: &Session) -> Vec<Request> {
    let templates = ["", "The sea[[4]]", "a[[2]]", "[[3]]", "The [[7]]", "[[*]]"];
    let grid = |steps, temperature| Sampling {
        steps,
        temperature: Temperature::Constant(temperature),
        ..Sampling::default()
    };
    (0..18)
        .map(|number| {
            let prompt: TextPrompt = templates[number % templates.len()].parse().unwrap();
            let request = Request {
                prompt: session.prompt(&prompt, None).unwrap(),
                seed: number as u64 / 5,
                first_sequence: 3 * number as u64,
                ..session.request()
            };
            match (session.is_autoregressive(), number % 5) {
                (true, _) => Request { sampling: grid(0, 1.0 - 0.1 * (number % 5) as f64), ..request },
                (false, 0) => Request { sampling: grid(6, 0.9), ..request },
                (false, 1) => Request { order: Order::LeftToRight, per_step: 2, ..request },
                (false, 2) => Request { order: Order::Confidence, unit: RevealUnit::Tokens, ..request },
                (false, 3) => {
                    let corrector = Some([4.0, 0.5, 0.0].into());
                    Request { sampling: Sampling { corrector, ..grid(5, 1.0) }, ..request }
                }
                (false, _) => Request { carry_over: Some(false), ..request },
            }
        })
        .collect()
}

fn alone(session: &Session, request: &Request) -> (Vec<u32>, SampleReport) {
    let generated = session.generate(request, &mut Unobserved).unwrap();
    (generated.tokens[0].clone(), generated.report)
}

#[test]
fn requests_that_come_and_go_are_what_they_are_alone() {
    for network in [dit(false), dit(true), blocks(), baseline()] {
        let session = session(network, Tokenizer::bytes(), 2);
        let requests = requests(&session);
        let expected: Vec<_> = requests.iter().map(|request| alone(&session, request)).collect();
        for batch in [1, 3, 64] {
            let mut generator = session.generator(batch).unwrap();
            let mut finished: Vec<Option<FinishedSequence>> = vec![None; 2 * requests.len()];
            let mut told = vec![Vec::new(); finished.len()];
            let mut visits = vec![0; finished.len()];
            let mut coming = requests.iter();
            for round in 0.. {
                let next = if round % 3 == 0 { coming.next() } else { None };
                if let Some(request) = next {
                    let prepared = session.prepare(request).unwrap();
                    let kept = generator.add(&prepared, 0).unwrap();
                    assert!(generator.add(&prepared, 1).is_err());
                    let leaves = generator.add(&prepared, 0).unwrap();
                    assert_eq!((kept, leaves), (2 * round / 3, 2 * round / 3 + 1));
                    // At once, or while it is under way.
                    let goes = if leaves % 4 == 1 { leaves } else { leaves.saturating_sub(2) | 1 };
                    if finished[goes].is_none() {
                        if let Some(cost) = generator.cancel(goes) {
                            let given =
                                if session.is_autoregressive() { cost.evaluations - visits[goes] } else { 0 };
                            assert_eq!(cost.evaluations, visits[goes] + given);
                            assert_eq!(cost.steps_total, cost.steps_skipped + cost.evaluations, "{goes}");
                        }
                        assert!(generator.cancel(goes).is_none());
                        told[goes].clear();
                    }
                }
                let mut evaluated = 0;
                let mut observer = WithDigits(|event: &Event| {
                    match *event {
                        Event::Started { sequence, y } => told[sequence] = y.to_vec(),
                        Event::Revealed { sequence, digits, .. } => {
                            evaluated += 1;
                            visits[sequence] += 1;
                            digits.iter().for_each(|&(digit, value)| told[sequence][digit] = value);
                        }
                        _ => {}
                    }
                    Ok(())
                });
                for one in generator.round(&mut observer).unwrap() {
                    let sequence = one.sequence;
                    assert!(finished[sequence].replace(one).is_none());
                }
                assert!(evaluated <= batch, "{evaluated} sequences in a round");
                if next.is_none() && generator.is_empty() && coming.len() == 0 {
                    break;
                }
            }
            let codes = session.architecture().predictive().codes();
            for (request, (tokens, report)) in expected.iter().enumerate() {
                let one = finished[2 * request].as_ref().unwrap();
                assert_eq!((&one.tokens, &one.report), (tokens, report), "{request} of batch {batch}");
                let digits = &told[2 * request][..2 * tokens.len()];
                assert_eq!(codes.decode(digits).unwrap(), *tokens, "what was told");
            }
        }
    }
}

/// Long ones that are written, and long ones that are given and have to be read.
#[test]
fn a_short_text_does_not_wait_for_long_ones() {
    let given = TextPrompt::new().tokens(vec![97; 390]).rest();
    let whole = TextPrompt::default();
    for (network, long, length) in [
        (blocks(), &whole, Some(400)),
        (blocks(), &given, Some(400)),
        (dit(false), &whole, None),
        (baseline(), &whole, None),
    ] {
        let session = session(network, Tokenizer::bytes(), 2);
        let long = Request { prompt: session.prompt(long, length).unwrap(), num: 3, ..session.request() };
        let short =
            Request { prompt: session.prompt(&"[[2]]".parse().unwrap(), None).unwrap(), ..long.clone() };
        let (long, short) = (session.prepare(&long).unwrap(), session.prepare(&short).unwrap());
        let mut generator = session.generator(1).unwrap();
        for sample in 0..3 {
            generator.add(&long, sample).unwrap();
        }
        for _ in 0..5 {
            assert!(generator.round(&mut Unobserved).unwrap().is_empty());
        }
        let sequence = generator.add(&short, 0).unwrap();
        // Its beginning and two tokens are at most six sub-tokens, at one turn in four.
        let first = (0..24).find_map(|_| generator.round(&mut Unobserved).unwrap().pop()).unwrap();
        assert_eq!(first.sequence, sequence);
        assert_eq!(generator.len(), 3);
    }
}

/// Whatever is read in turns is read as at once.
#[test]
fn texts_that_are_read_in_turns_go_on_as_alone() {
    let session = session(blocks(), Tokenizer::bytes(), 2);
    let request = |tokens: usize, seed| Request {
        prompt: session
            .prompt(
                &TextPrompt::new().tokens((0..tokens as u32).map(|i| i * 7 % 250).collect()).rest(),
                Some(tokens + 9),
            )
            .unwrap(),
        seed,
        ..session.request()
    };
    let requests = [request(290, 1), request(31, 2), request(290, 3), request(100, 4)];
    let mut generator = session.generator(2).unwrap();
    for request in &requests {
        generator.add(&session.prepare(request).unwrap(), 0).unwrap();
    }
    let mut finished = Vec::new();
    while !generator.is_empty() {
        finished.extend(generator.round(&mut Unobserved).unwrap());
    }
    for one in finished {
        let (tokens, report) = alone(&session, &requests[one.sequence]);
        assert_eq!((one.tokens, one.report.clean_passes), (tokens, report.clean_passes), "{}", one.sequence);
    }
}

/// The terms that are told while a text is written are those of its exact likelihood in that order.
#[test]
fn probabilities_that_are_told_add_up_to_the_score() {
    for (network, subtokens) in
        [(dit(false), 2), (dit(true), 4), (blocks(), 2), (baseline(), 2), (baseline(), 1)]
    {
        let session = session(network, Tokenizer::bytes(), subtokens);
        let orders = match session.is_autoregressive() {
            true => vec![(Order::LeftToRight, RevealUnit::Tokens)],
            false => [Order::LeftToRight, Order::Confidence]
                .into_iter()
                .flat_map(|order| [(order, RevealUnit::Digits), (order, RevealUnit::Tokens)])
                .collect(),
        };
        for (order, unit) in orders {
            let whole = unit == RevealUnit::Tokens && (!session.is_autoregressive() || subtokens == 1);
            let request = Request {
                prompt: session.prompt(&"The [[4]]".parse().unwrap(), None).unwrap(),
                order,
                unit,
                log_probs: Some(if whole { 3 } else { 0 }),
                num: 3,
                ..session.request()
            };
            let mut nats = [0.0; 3];
            let mut observer = WithDigits(|event: &Event| {
                let Event::Revealed { sequence, digits, log_probs, .. } = *event else { return Ok(()) };
                let tokens: Vec<usize> = log_probs.iter().map(|term| term.token).collect();
                let mut revealed: Vec<usize> = digits.iter().map(|(digit, _)| digit / subtokens).collect();
                revealed.dedup();
                assert_eq!(tokens, revealed);
                for term in log_probs {
                    nats[sequence] += term.nats;
                    assert_eq!(term.top.len(), if whole { 3 } else { 0 });
                    assert!(term.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
                    assert!(term.top.iter().all(|(_, log_prob)| *log_prob <= 0.0));
                }
                Ok(())
            });
            let generated = session.generate(&request, &mut observer).unwrap();
            for (tokens, nats) in generated.tokens.iter().zip(nats) {
                let layout = submask::model::TextLayout::default();
                let passage = session
                    .architecture()
                    .passage_of_tokens(layout, &tokens[1..5], &tokens[5..], true)
                    .unwrap();
                let scored = session.score(&exact(order, unit), &[passage]).unwrap()[0].nats;
                assert!((scored - nats).abs() < 1e-4 * scored, "{order} {unit:?}: {nats}, not {scored}");
            }
        }
    }
}

#[test]
fn probabilities_are_refused_where_there_is_no_chain_rule() {
    let diffusion = session(dit(false), Tokenizer::bytes(), 2);
    let baseline = session(baseline(), Tokenizer::bytes(), 2);
    let hot = Sampling { temperature: Temperature::Constant(0.7), ..Sampling::default() };
    let cut = Sampling { top_p: 0.9, ..Sampling::default() };
    let asks = |session: &Session, log_probs, order, sampling: &Sampling| {
        let request =
            Request { log_probs: Some(log_probs), order, sampling: sampling.clone(), ..session.request() };
        session.prepare(&request).map(drop).map_err(|error| error.to_string())
    };
    let plain = Sampling::default();
    asks(&diffusion, 0, Order::LeftToRight, &plain).unwrap();
    asks(&baseline, 0, Order::Random, &plain).unwrap();
    for (session, log_probs, order, sampling) in [
        (&diffusion, 0, Order::Random, &plain),
        (&diffusion, 2, Order::LeftToRight, &plain),
        (&diffusion, 0, Order::LeftToRight, &hot),
        (&diffusion, 0, Order::Confidence, &cut),
        (&baseline, 1, Order::LeftToRight, &plain),
        (&baseline, 0, Order::LeftToRight, &hot),
    ] {
        let said = asks(session, log_probs, order, sampling).unwrap_err();
        assert!(said.contains("log_probs"), "{said}");
    }
}

#[test]
fn prompts_are_built_of_parts() {
    let session = session(dit(false), Tokenizer::bytes(), 2);
    let codes = session.architecture().predictive().codes();
    let text = |text: &str| session.prompt(&text.parse().unwrap(), None).unwrap();
    let built = |prompt: TextPrompt| session.prompt(&prompt, None);
    assert_eq!(built(TextPrompt::new().text("ab").hole(2).text("[[3]]")).unwrap(), text(r"ab[[2]]\[[3]]"));
    assert_eq!(built(TextPrompt::new().tokens(vec![97, 98]).rest()).unwrap(), text("ab"));
    let digits: Vec<Option<u32>> = codes.digits(97).iter().copied().map(Some).collect();
    let half = vec![digits[0], None];
    let partly = built(TextPrompt::new().digits(vec![digits.clone(), half.clone()])).unwrap();
    assert_eq!(partly[2..], [digits, half].concat());
    for (wrong, named) in [
        (TextPrompt::new().text("ab"), "nothing is left"),
        (TextPrompt::new().tokens(vec![300]).hole(1), "300"),
        (TextPrompt::new().digits(vec![vec![None]]), "digits of a token"),
        (TextPrompt::new().hole(30), "31 tokens"),
    ] {
        let said = built(wrong).unwrap_err().to_string();
        assert!(said.contains(named), "{said}");
    }
}
