use super::*;
use crate::load::Operation;

fn read(text: &str) -> Result<Scenario, String> {
    read_with(text, &[])
}

fn read_with(text: &str, sets: &[&str]) -> Result<Scenario, String> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Scenario::read(Path::new("folder/some.toml"), text, &sets)
}

#[test]
fn every_built_in_scenario_can_be_read() {
    for (name, text) in BUILT_IN {
        let scenario = Scenario::read(Path::new(name), text, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert!(!scenario.description.is_empty(), "{name} says what it is for");
        if !NOT_ON_TOUR.contains(name) {
            assert_ne!(scenario.thresholds, Thresholds::default(), "{name} has thresholds");
        }
    }
}

#[test]
fn an_empty_file_is_a_steady_load() {
    let scenario = read("").expect("a scenario");
    assert_eq!((scenario.name.as_str(), scenario.agents), ("some", 10_000));
    assert_eq!(scenario.course, Course::Steady(SECOND * 30));
    assert_eq!(scenario.server.timeout, SECOND * 10);
    assert!(scenario.settings.contains(&("fleet.agents".to_owned(), "10000".to_owned())));
    assert!(!scenario.settings.iter().any(|(key, _)| key.starts_with("ramp.")));
}

#[test]
fn settings_are_read() {
    let text = r#"
        description = "a test"
        [fleet]
        agents = 1_000
        rate = 500
        tokens = "admin"
        [herd]
        within = "500ms"
        [load]
        duration = "1m"
        batch = 100
        keep_alive = false
        [server]
        store = "redis"
        args = ["--tls=off"]
        [thresholds]
        p99_ms = 2.5
        errors = 0
    "#;
    let scenario = read(text).expect("a scenario");
    assert_eq!(scenario.schedule, Schedule::herd(1_000, SECOND * 2, MILLISECOND * 500));
    assert_eq!(scenario.course, Course::Steady(SECOND * 60));
    assert_eq!(scenario.transport.batching, Some(Batching { beats: 100, gather: MILLISECOND * 10 }));
    assert_eq!(scenario.transport.keep_alive, KeepAlive::No);
    assert_eq!((scenario.server.store, scenario.server.timeout), (StorePlan::Redis, SECOND * 2));
    let verdicts = scenario.thresholds.judge(&Figures::from([("p99_ms", 2.0), ("errors", 1.0)]), false);
    assert_eq!(verdicts.iter().map(|verdict| verdict.kept).collect::<Vec<_>>(), [Some(true), Some(false)]);
}

#[test]
fn what_goes_on_beside_the_load_is_there_if_its_section_is() {
    let beside = read("[probe]\nagents = 50\nrate = 100\n[list]").expect("a scenario").beside;
    assert_eq!(beside.churn_per_second, None);
    let probe = beside.probe.expect("a probe");
    assert_eq!((probe.agents, probe.connections), (50, 64));
    assert_eq!(probe.schedule(), Schedule::every(50, MILLISECOND * 500));
    assert_eq!(beside.list, Some(ListPlan { pause: Duration::ZERO }));
    let without = read("").expect("a scenario");
    assert_eq!(without.beside, Beside::default());
    let sections = ["churn.", "probe.", "list.", "threats.", "readers."];
    assert!(!without.settings.iter().any(|(key, _)| sections.iter().any(|section| key.starts_with(section))));
}

#[test]
fn threats_are_reported_by_schedule_however_many_a_report_has() {
    for (events, reports_per_second) in [("", 100.0), ("events = 20\n", 5.0)] {
        let text = format!("[threats]\nper_minute = 6_000\ntypes = 7\n{events}[fleet]\nrate = 50\n");
        let scenario = read(&text).expect("a scenario");
        let threats = scenario.beside.threats.expect("threats");
        assert_eq!((threats.reports.types, threats.connections), (7, 64));
        assert_eq!(threats.reports_per_second(), reports_per_second);
        assert_eq!(threats.schedule(), Schedule::at_rate(1, reports_per_second));
        // A report is a request, and asks as much of a machine as a beat at least.
        assert_eq!(scenario.peak_rate(), 50.0 + reports_per_second);
    }
}

#[test]
fn readers_go_with_a_silence_that_ends() {
    let scenario = read("[silence]\nback = \"2s\"\n[readers]\n").expect("a scenario");
    assert_eq!(scenario.beside.readers, Some(100));
    assert!(matches!(scenario.course, Course::Silence(SilencePlan { back: Some(back), .. }) if back == SECOND * 2));
}

#[test]
fn a_comparison_is_of_the_sides_that_are_named() {
    let compared = |sets: &[&str]| match read_with("[compare]\n", sets).expect("a scenario").course {
        Course::Compare(plan) => plan,
        other => panic!("{other:?}"),
    };
    let names = |sets: &[&str]| compared(sets).sides.into_iter().map(SideKind::name).collect::<Vec<_>>();
    assert_eq!(names(&[]), ["embedded", "bare"]);
    assert_eq!(names(&["compare.sides=memory,redis,url"]), ["memory", "redis", "url"]);
    let registrations = compared(&["compare.send=registrations", "load.duration=1m"]);
    assert_eq!((registrations.operation, registrations.duration), (Operation::Register, SECOND * 60));
}

#[test]
fn a_survey_ends_by_itself_or_goes_on_with_a_silence() {
    let alone = read("[survey]\nthreats = 7\n").expect("a scenario");
    assert_eq!((alone.course, alone.survey.expect("a survey").threats), (Course::Surveyed, 7));
    assert_eq!(alone.server.timeout, DAY);
    let both = read_with("[fleet]\ninterval = \"60s\"\n[survey]\n", &["silence.agents=3"]).expect("a scenario");
    assert!(matches!(&both.course, Course::Silence(plan) if plan.of(10_000) == 3));
    assert_eq!((both.survey.is_some(), both.server.timeout), (true, SECOND * 60));
}

#[test]
fn idle_connections_are_of_the_sides_that_are_named() {
    let idle = |sets: &[&str]| match read_with("[idle]\n", sets).expect("a scenario").course {
        Course::Idle(plan) => plan,
        other => panic!("{other:?}"),
    };
    let standard = idle(&["load.duration=7s"]);
    assert_eq!(standard.sides.iter().map(|side| side.name()).collect::<Vec<_>>(), ["memory", "bare"]);
    assert_eq!((standard.duration, standard.reconnect), (SECOND * 7, true));
    let other = idle(&["idle.sides=embedded", "idle.reconnect=false"]);
    assert_eq!((other.sides, other.reconnect), (vec![SideKind::Engine(StorePlan::Embedded)], false));
    let in_redis = read_with("[idle]\n", &["idle.sides=redis,bare"]).expect("a scenario");
    assert!(in_redis.uses_redis() && in_redis.server.timeout == DAY);
    let (_, built_in) = BUILT_IN.iter().find(|(name, _)| *name == "idle").expect("built in");
    let built_in = Scenario::read(Path::new("idle"), built_in, &[]).expect("a scenario");
    assert_eq!((built_in.agents, built_in.interval), (15_000, SECOND * 10));
}

#[test]
fn the_command_line_holds_over_the_file() {
    let scenario = read_with("[fleet]\nagents = 5\n", &["fleet.agents=7", "silence.share = 0.5", "load.warm_up=0s"]);
    let scenario = scenario.expect("a scenario");
    assert_eq!((scenario.agents, scenario.warm_up), (7, Duration::ZERO));
    assert!(matches!(scenario.course, Course::Silence(SilencePlan { share: 0.5, .. })));
}

#[test]
fn an_empty_section_chooses_a_course_with_its_defaults() {
    let scenario = read("[ramp]\n").expect("a scenario");
    assert!(matches!(scenario.course, Course::Ramp(RampPlan { from: 1_000.0, .. })));
    assert_eq!(scenario.server.timeout, Duration::from_millis(LONG_TIMEOUT_MS));
}

#[test]
fn each_mistake_is_told_with_its_line_its_key_and_what_would_be_right() {
    for (text, told) in [
        ("[fleet]\nagents = 0", "folder/some.toml:2: fleet.agents is 0: it must be a whole number from 1 to"),
        ("[fleet]\nagents = \"5\"", "some.toml:2: fleet.agents is \"5\": it must be a whole number"),
        ("[fleet]\n\nagent = 5", "some.toml:3: unknown key fleet.agent: [fleet] takes agents, interval, rate, tokens"),
        ("[flet]\nagents = 5", "some.toml:2: unknown key flet.agents: the sections are [churn], [compare], [fleet]"),
        ("[flet]", "unknown section [flet]"),
        ("agents = 5", "some.toml:1: unknown key agents: the sections are"),
        ("[load]\nduration = 30", "some.toml:2: load.duration is 30: it must be a time in quotes such as \"10s\""),
        ("[load]\nkeep_alive = 1", "some.toml:2: load.keep_alive is 1: it must be true or false"),
        ("[fleet]\ntokens = \"mine\"", "fleet.tokens is \"mine\": it must be \"own\" or \"admin\""),
        ("[thresholds]\np99_ms = -1", "thresholds.p99_ms is -1: it must be a number, at least 0"),
        ("[thresholds]\nmissed = 0", "some.toml:2: thresholds.missed needs a section [silence]"),
        ("[fleet]\nrate = 5\ninterval = \"1s\"", "some.toml:2: fleet.rate and fleet.interval say the same"),
        ("[ramp]\n[silence]", "[ramp] and [silence] cannot be in one scenario"),
        ("[load]\nbatch = 5", "some.toml:2: load.batch needs fleet.tokens = \"admin\""),
        ("[ramp]\n[list]", "[list] goes with a steady load, a herd or [silence], and nothing else"),
        ("[threats]\nevents = 101", "some.toml:2: threats.events is 101: it must be a whole number from 1 to 100"),
        ("[restart]\n[readers]", "[readers] goes with a steady load, a herd or [silence], and nothing else"),
        ("[thresholds]\nreaders_lost = 0", "some.toml:2: thresholds.readers_lost needs a section [readers]"),
        ("[thresholds]\nthreat_errors = 0", "some.toml:2: thresholds.threat_errors needs a section [threats]"),
        ("[probe]\nrate = 10", "some.toml:2: probe.rate is too low: each of probe.agents must beat once in"),
        ("[thresholds]\nprobe_p99_ms = 20", "some.toml:2: thresholds.probe_p99_ms needs a section [probe]"),
        (
            "[compare]\nsides = []",
            "some.toml:2: compare.sides is []: it must be a list of one or more of [\"embedded\", ",
        ),
        ("[compare]\nsides = [\"mine\"]", "some.toml:2: compare.sides is [\"mine\"]"),
        (
            "[compare]\nsides = [\"bare\"]\n[server]\ntls = true",
            "some.toml:4: server.tls needs an engine as the first of",
        ),
        (
            "[compare]\n[fleet]\nagents = 99\ntokens = \"admin\"\n[load]\nbatch = 100",
            "some.toml:6: load.batch must not be more than fleet.agents",
        ),
        ("[idle]\nsides = [\"url\"]", "some.toml:2: idle.sides is [\"url\"]: it must be a list of one or more of"),
        (
            "[idle]\n[load]\nkeep_alive = false",
            "some.toml:3: [idle] is of agents that each keep a connection: leave out",
        ),
        ("[idle]\n[herd]\nwithin = \"1s\"", "some.toml:3: [idle] spreads its beats evenly: leave out [herd]"),
        ("[idle]\n[fleet]\nagents = 1", "some.toml:3: [idle] compares half of the connections with all: fleet.agents"),
        (
            "[idle]\nsides = [\"bare\"]\n[server]\ntls = true",
            "some.toml:4: server.tls needs an engine as the first of idle.sides",
        ),
        ("[idle]\n[probe]", "[probe] goes with a steady load, a herd or [silence], and nothing else"),
        ("[thresholds]\nreopened = 0", "some.toml:2: thresholds.reopened needs a section [idle]"),
        ("[survey]\n[ramp]", "[survey] goes with [silence] or alone"),
        ("[fleet]\nagents = 5\n[silence]\nagents = 6", "silence.agents, must be one agent at least, and all at most"),
        ("[outage]", "[outage] needs server.store = \"redis\""),
        (
            "[restart]\n[load]\nduration = \"5s\"",
            "some.toml:3: load.duration is 5s: to see agents falsely called stale",
        ),
        ("[fleet\n", "some.toml:1: "),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(told), "{text:?} gave {error:?} instead of {told:?}");
    }
    let error = read_with("", &["fleet.agents=x"]).expect_err("not a number");
    assert!(error.starts_with("--set: fleet.agents is x: it must be a whole number"), "{error}");
    assert!(read_with("", &["agents"]).expect_err("no value").contains("must be section.key=value"));
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file() {
    let error = read("[load]\nkeep_alive = 1\n[fleet]\nagents = 0\nx = 1\n").expect_err("three mistakes");
    let lines: Vec<&str> = error.lines().map(|line| &line[..line.find(": ").expect("an origin")]).collect();
    assert_eq!(lines, ["folder/some.toml:2", "folder/some.toml:4", "folder/some.toml:5"]);
}
