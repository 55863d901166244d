use super::*;
use crate::run::Outcome;

const HOSTILE: &str = "<script>alert(\"x\")</script> & 'co'";

/// An outcome with everything in it, and texts that would break a page that does not escape them.
fn outcome() -> Outcome {
    Outcome::example(HOSTILE)
}

/// Checks that every tag is closed in order, and that nothing else looks like one.
fn check_well_formed(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let style = body.find("<style>").expect("a style")..body.find("</style>").expect("its end");
    let body = format!("{}{}", &body[..style.start + "<style>".len()], &body[style.end..]);
    let mut open: Vec<&str> = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("every tag ends");
        assert!(!text.contains('>') && !tag.contains('\n'), "{piece}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        for (at, _) in text.match_indices('&') {
            let entity = &text[at..text[at..].find(';').map_or(text.len(), |end| at + end + 1)];
            assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].contains(&entity), "{text}");
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn the_page_is_well_formed_and_every_text_is_escaped() {
    let page = html(&outcome());
    check_well_formed(&page);
    assert!(!page.contains("<script"), "no text became a tag");
    assert!(page.matches("&lt;script&gt;").count() >= 5, "all of them are there");
}

#[test]
fn the_page_loads_nothing() {
    let page = html(&outcome());
    for word in ["src=", "href=", "url(", "@import", "<link", "<script", "http://www", "https://"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn a_run_of_which_nothing_is_known_has_a_page_too() {
    let mut outcome = outcome();
    outcome.points.clear();
    outcome.latency.clear();
    outcome.figures.clear();
    outcome.events.clear();
    outcome.trials.clear();
    outcome.thresholds.clear();
    let page = html(&outcome);
    check_well_formed(&page);
    assert!(page.contains("No thresholds were set."));
}

#[test]
fn broken_thresholds_are_told_in_words() {
    let page = html(&outcome());
    assert!(page.contains("Failed: 1 of 2 thresholds broken."), "{page}");
    assert!(page.contains("p99_ms is 23.50 ms, 3.50 ms above its limit of 20 ms"));
}

#[test]
fn an_interrupted_run_is_marked_and_accused_of_nothing() {
    let mut outcome = outcome();
    outcome.interrupted = true;
    for verdict in &mut outcome.thresholds {
        (verdict.measured, verdict.kept) = (None, None);
    }
    let page = html(&outcome);
    check_well_formed(&page);
    assert!(page.contains("Interrupted: the figures are those of a part of the run."), "{page}");
    assert!(page.contains("interrupted, not measured") && !page.contains("broken"), "{page}");
}
