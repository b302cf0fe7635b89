use super::*;
use crate::sim::Book;
use crate::sim::known::{Asked, Known};
use std::sync::Arc;

fn limits(max_tokens: u32) -> Limits {
    Limits { max_tokens, ..Limits::default() }
}

fn said(hash: u64, seed: u64, limits: &Limits) -> Answer {
    let prompt = Prompt { hash, ..Prompt::from_text("", 16) };
    Answer::new(&prompt, &Config { seed, ..Config::default() }, limits)
}

fn pieces(answer: &Answer) -> String {
    (0..answer.tokens).map(|index| answer.piece(index)).collect()
}

#[test]
fn an_answer_is_four_bytes_a_token_and_the_same_each_time() {
    let answer = said(7, 1, &limits(50));
    assert_eq!((answer.text().len(), answer.tokens, &answer.finish), (200, 50, &Finish::Length));
    assert_eq!(answer.text(), said(7, 1, &limits(50)).text());
    assert_ne!(answer.text(), said(8, 1, &limits(50)).text());
    assert_ne!(answer.text(), said(7, 2, &limits(50)).text());
    assert_eq!(answer.piece(3), &answer.text()[12..16]);
}

#[test]
fn the_words_of_a_seed_never_change() {
    assert_eq!(said(0, 0, &limits(4)).text(), "bdu cng ajb hhk ");
}

#[test]
fn a_prompt_with_the_beginning_of_its_answer_is_answered_with_the_rest() {
    let ends = Limits { eos_probability: 0.01, min_tokens: 2, ..limits(300) };
    for seed in 0..20 {
        let config = Config { seed, ..Config::default() };
        let prompt = Prompt::from_text("an even beginning, long enough", 16);
        let whole = Answer::new(&prompt, &config, &ends);
        let first = Answer::first_id(&prompt, &config);
        let ids = token_ids("an even beginning, long enough").chain([first]);
        let longer = Prompt::from_ids(ids, 16);
        let shorter = Limits { max_tokens: 299, min_tokens: 1, ..ends.clone() };
        let rest = Answer::new(&longer, &config, &shorter);
        assert_eq!(rest.text(), &whole.text()[4..]);
        assert_eq!(rest.finish, whole.finish);
    }
}

#[test]
fn lengths_are_geometric_with_mean_one_over_p() {
    let lengths = (0..20_000_u64).map(|prompt| {
        let limits = Limits { eos_probability: 0.02, ..limits(100_000) };
        f64::from(said(mix(prompt), 0, &limits).tokens)
    });
    let mean = lengths.sum::<f64>() / 20_000.0;
    assert!((mean - 50.0).abs() < 3.0 * 50.0 / 20_000_f64.sqrt(), "{mean}");
}

#[test]
fn an_answer_that_ends_by_itself_keeps_to_its_bounds() {
    for p in [0.5, 1.0] {
        let answer = said(1, 0, &Limits { eos_probability: p, min_tokens: 30, ..limits(100) });
        assert!((30..100).contains(&answer.tokens) && answer.finish == Finish::End);
    }
    let cut = said(1, 0, &Limits { eos_probability: 1e-9, ..limits(10) });
    assert_eq!((cut.tokens, cut.finish), (10, Finish::Length));
}

#[test]
fn a_stop_string_cuts_text_and_is_never_shown_in_part() {
    let whole = said(3, 0, &limits(40));
    let stop = &whole.text()[18..25]; // over three tokens: 4, 5 and 6
    let asked = Limits { stop: vec!["???".to_owned(), stop.to_owned()], ..limits(40) };
    let answer = said(3, 0, &asked);
    assert_eq!((answer.tokens, &answer.finish), (7, &Finish::Stop(stop.to_owned())));
    assert_eq!(answer.text(), &whole.text()[..18]);
    assert_eq!(pieces(&answer), answer.text());
    let kept = said(3, 0, &Limits { include_stop: true, ..asked.clone() });
    assert_eq!((kept.text(), pieces(&kept).len()), (&whole.text()[..25], 25));
    let later = said(3, 0, &Limits { min_tokens: 7, ..asked });
    assert_eq!(later.tokens, 40);
}

const ANSWER: &str = "Each day Zoë sells 3 × 4 = 12 “big” eggs — that is 12 € a day, so much for that.";

fn known(right: f64) -> (Prompt, Config) {
    let book = Book::new([("How many?".to_owned(), format!("{ANSWER}\n#### 12"))], right);
    let text = "Question: How many?\nAnswer:";
    let known = Known::of(text, Asked::BehindMarker, Some(&book));
    assert!(known.is_some());
    let config = Config { book: Some(Arc::new(book)), ..Config::default() };
    (Prompt { known, ..Prompt::from_text(text, 16) }, config)
}

#[test]
fn a_known_question_is_answered_in_whole_characters() {
    let (prompt, mut config) = known(1.0);
    for seed in 0..40 {
        config.seed = seed;
        let answer = Answer::new(&prompt, &config, &limits(400));
        assert!(answer.text().starts_with(ANSWER) && answer.text()[ANSWER.len()..].contains("12"));
        assert_eq!((answer.tokens as usize, &answer.finish), (answer.text().len().div_ceil(4), &Finish::End));
        assert_eq!(pieces(&answer), answer.text());
        for asked in [1, 3, 17] {
            let cut = Answer::new(&prompt, &config, &limits(asked));
            assert_eq!(
                (cut.tokens, &cut.finish, pieces(&cut)),
                (asked, &Finish::Length, cut.text().to_owned())
            );
            assert!(answer.text().starts_with(cut.text()) && asked as usize * 4 <= cut.text().len() + 3);
        }
        for stop in ["so m", "€", "12 “b"] {
            let asked = Limits { stop: vec![stop.to_owned()], ..limits(400) };
            let stopped = Answer::new(&prompt, &config, &asked);
            assert_eq!(stopped.text(), &answer.text()[..answer.text().find(stop).unwrap()]);
            assert_eq!(
                (pieces(&stopped), &stopped.finish),
                (stopped.text().to_owned(), &Finish::Stop(stop.to_owned()))
            );
        }
    }
}

#[test]
fn a_known_answer_goes_on_in_words_where_it_may_not_end() {
    let (prompt, config) = known(1.0);
    let whole = Answer::new(&prompt, &config, &limits(400));
    let on = Answer::new(&prompt, &config, &Limits { ignore_eos: true, ..limits(99) });
    assert_eq!((on.tokens, &on.finish, on.text().starts_with(whole.text())), (99, &Finish::Length, true));
    assert_eq!(pieces(&on), on.text());
    let least = Answer::new(&prompt, &config, &Limits { min_tokens: 60, ..limits(99) });
    assert_eq!((least.tokens, &least.finish), (60, &Finish::End));
    // A chat without a limit may be longer than other answers are.
    let chat = Limits { ends_by_itself: true, room: 500, ..limits(5) };
    assert_eq!(Answer::new(&prompt, &config, &chat).text(), whole.text());
    let tight = Answer::new(&prompt, &config, &Limits { room: 7, ..chat });
    assert_eq!((tight.tokens, tight.finish), (7, Finish::Length));
}

#[test]
fn a_known_answer_is_taken_up_behind_its_first_token() {
    let (prompt, config) = known(0.5);
    let whole = Answer::new(&prompt, &config, &limits(400));
    let ids = token_ids("Question: How many?\nAnswer:").chain([Answer::first_id(&prompt, &config)]);
    let longer = Prompt { known: prompt.known.clone(), begun: true, ..Prompt::from_ids(ids, 16) };
    let rest = Answer::new(&longer, &config, &limits(399));
    assert_eq!(
        (format!("{}{}", whole.token(0), rest.text()), rest.finish),
        (whole.text().to_owned(), Finish::End)
    );
}

#[test]
fn a_damaged_answer_departs_at_the_token_that_was_drawn() {
    let (known, config) = known(1.0);
    let (words, recital) = (Prompt::from_text("anything else", 16), Known::Code("A-17-BRAVO".into()));
    let recital = Prompt { known: Some(recital), ..words.clone() };
    for prompt in [known, words, recital] {
        let right = Answer::new(&prompt, &config, &limits(40));
        let mut at_once = 0;
        for draw in (0..400).map(mix) {
            let (wrong, from) = Answer::damaged(&prompt, &config, &limits(40), draw);
            let same = (0..from).all(|index| right.token(index) == wrong.token(index));
            assert!(same && right.token(from) != wrong.token(from), "{from} {}", wrong.text());
            assert_eq!(wrong.finish, right.finish);
            let number =
                wrong.text().rsplit(['#', ' ']).find(|end| end.contains(|c: char| c.is_ascii_digit()));
            assert!(number.is_none_or(|number| number.trim_matches(['$', '.']) != "12"), "{}", wrong.text());
            at_once += u32::from(from == 0);
        }
        assert!((170..230).contains(&at_once) || right.tokens < 4, "{at_once}");
    }
}
