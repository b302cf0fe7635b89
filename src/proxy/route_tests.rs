use super::*;

const UP: Candidate =
    Candidate { up: true, in_flight: 0, prompt_tokens: 0, active: 0.0, kv: 0.0, max_model_len: None };
const JOB: Job = Job { prompt_tokens: 100, max_tokens: 50, body_bytes: 400 };

fn chosen(policy: Policy, role: Role, candidates: &[Candidate], times: usize) -> Vec<Option<usize>> {
    let mut state = State::new(1);
    (0..times).map(|_| choose(policy, role, candidates, &JOB, &mut state)).collect()
}

#[test]
fn every_policy_is_known_by_its_name() {
    for policy in Policy::ALL {
        assert_eq!(policy.name().parse(), Ok(policy));
    }
    assert!("best".parse::<Policy>().unwrap_err().contains("round-robin"));
}

#[test]
fn nobody_is_chosen_where_nobody_is_up() {
    let down = Candidate { up: false, ..UP };
    for policy in Policy::ALL {
        assert_eq!(chosen(policy, Role::Decode, &[], 1), [None], "{policy:?}");
        assert_eq!(chosen(policy, Role::Decode, &[down, down], 1), [None], "{policy:?}");
        assert_eq!(chosen(policy, Role::Decode, &[down, UP], 3), [Some(1); 3], "{policy:?}");
    }
}

#[test]
fn round_robin_passes_over_who_is_down() {
    let down = Candidate { up: false, ..UP };
    let got = chosen(Policy::RoundRobin, Role::Prefill, &[UP, down, UP], 5);
    assert_eq!(got, [Some(0), Some(2), Some(0), Some(2), Some(0)]);
}

#[test]
fn the_least_loaded_is_chosen_and_ties_go_by_turn() {
    let busy = |in_flight, prompt_tokens| Candidate { in_flight, prompt_tokens, ..UP };
    let three = [busy(2, 10), busy(1, 900), busy(3, 20)];
    assert_eq!(chosen(Policy::LeastInFlight, Role::Prefill, &three, 2), [Some(1), Some(1)]);
    assert_eq!(chosen(Policy::LeastTokens, Role::Prefill, &three, 2), [Some(0), Some(0)]);
    for policy in [Policy::LeastInFlight, Policy::LeastTokens] {
        assert_eq!(chosen(policy, Role::Decode, &[UP, UP, UP], 4), [Some(0), Some(1), Some(2), Some(0)]);
    }
}

#[test]
fn a_request_goes_where_its_context_fits() {
    let sized = |max| Candidate { max_model_len: Some(max), ..UP };
    // 100 + 1 tokens on prefill, 100 + 50 on decode.
    for (role, sizes, got) in [
        (Role::Prefill, [100, 101, 100], 1),
        (Role::Decode, [101, 149, 150], 2),
        // None fits: the largest, for its own refusal.
        (Role::Decode, [10, 30, 20], 1),
    ] {
        for policy in Policy::ALL {
            let candidates = sizes.map(sized);
            assert_eq!(chosen(policy, role, &candidates, 2), [Some(got); 2], "{policy:?} {sizes:?}");
        }
    }
    assert_eq!(chosen(Policy::LeastTokens, Role::Decode, &[sized(10), UP], 1), [Some(1)]);
}

#[test]
fn the_score_of_vllm_ascend_is_its_formula() {
    assert!((JOB.score(Role::Prefill) - (100.0 * 0.0345 + 120.0745)).abs() < 1e-9);
    assert!((JOB.score(Role::Decode) - 400.0).abs() < 1e-9);
    let scored = |active, kv| Candidate { active, kv, ..UP };
    // Prefill: 10 + 0.3 · 100 against 39; decode counts the work alone.
    let two = [scored(10.0, 100.0), scored(39.0, 0.0)];
    assert_eq!(chosen(Policy::Ascend, Role::Prefill, &two, 1), [Some(1)]);
    assert_eq!(chosen(Policy::Ascend, Role::Decode, &two, 1), [Some(0)]);
    assert_eq!(chosen(Policy::Ascend, Role::Decode, &[UP, UP], 3), [Some(0); 3]);
}

#[test]
fn what_is_drawn_is_drawn_again_from_the_same_seed() {
    let four = [UP; 4];
    let draws = chosen(Policy::Random, Role::Decode, &four, 200);
    assert_eq!(draws, chosen(Policy::Random, Role::Decode, &four, 200));
    for at in 0..4 {
        let share = draws.iter().filter(|&&drawn| drawn == Some(at)).count();
        assert!((30..70).contains(&share), "{at}: {share} of 200");
    }
}
