"""Other projects' words for settings, for the errors about unknown flags and keys."""

from __future__ import annotations

from collections.abc import Iterable

_INNER, _OUTER = "agent.inner.lr", "agent.outer.lr"
_HIDDEN = ("agent.policy.hidden", "agent.network.hidden")
_STEPS = ("agent.inner.steps", "steps")

SETTINGS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("learning_rate", "lrate", "stepsize", "step_size", "lr"): (_INNER, _OUTER, "inner_lr"),
    ("alpha", "inner_lr", "fast_lr", "update_lr", "inner_learning_rate", "adapt_lr"): (
        *(_INNER, "inner_lr"),
    ),
    ("beta", "outer_lr", "meta_lr", "outer_learning_rate", "meta_learning_rate"): (
        *(_OUTER, "agent.outer.max_kl"),
    ),
    ("gamma", "discount_factor", "discounting"): ("agent.advantages.discount",),
    ("lam", "lambda", "gae", "tau", "gae_lam"): ("agent.advantages.gae_lambda",),
    ("num_envs", "n_envs", "num_workers", "n_workers", "n_jobs", "nproc", "processes", "cpus"): (
        *("workers", "threads"),
    ),
    ("n_steps", "num_steps", "nsteps"): (*_STEPS, "env.horizon"),
    ("inner_steps", "num_inner_steps", "num_updates", "adaptation_steps", "adapt_steps"): _STEPS,
    ("max_episode_steps", "episode_length", "max_path_length", "max_steps", "time_limit"): (
        "env.horizon",
    ),
    ("epochs", "n_epochs", "num_epochs"): (
        *("agent.outer.epochs", "agent.inner.epochs", "iterations"),
    ),
    ("total_timesteps", "timesteps", "total_steps", "num_iterations", "n_iter", "iters"): (
        "iterations",
    ),
    ("n_itr", "max_iter", "num_iters", "num_batches", "meta_iterations"): ("iterations",),
    ("batch_size", "fast_batch_size", "fbs"): ("sampling.tasks", "sampling.episodes", "tasks"),
    ("meta_batch_size", "meta_batch", "num_tasks", "n_tasks", "mbs"): ("sampling.tasks", "tasks"),
    ("num_episodes", "n_episodes", "rollouts", "num_rollouts", "rollouts_per_task"): (
        *("sampling.episodes", "episodes"),
    ),
    ("hidden_size", "hidden_sizes", "hidden_dim", "layers", "net_arch", "num_hidden"): _HIDDEN,
    ("num_layers", "width", "units"): _HIDDEN,
    ("clip_range", "clip_eps", "clip_param", "epsilon", "clip_ratio"): ("agent.outer.clip",),
    ("kl", "delta", "trust_region", "max_kl_step"): ("agent.outer.max_kl",),
    ("k_shot", "n_shot", "num_shots", "kshot", "support"): ("env.shots", "shots"),
    ("n_way", "num_ways", "num_classes", "n_ways", "nway"): ("env.ways",),
    ("query", "num_queries", "n_query"): ("env.queries",),
    ("gpu", "cuda", "use_gpu", "use_cuda", "no_cuda"): ("device",),
    ("logdir", "log_dir", "output", "output_dir", "save_dir", "out_dir", "exp_dir", "dir"): (
        *("run_dir", "out"),
    ),
    ("save_every", "save_freq", "save_interval", "checkpoint_freq", "checkpoint_interval"): (
        "checkpoint_every",
    ),
    ("random_seed", "rng_seed"): ("seed",),
    ("task", "environment", "env_id", "env_name", "gym_id", "dataset"): ("env.name",),
    ("algo", "algorithm", "method", "model", "learner"): ("agent.name",),
    ("normalize", "normalise", "obs_norm", "normalize_obs", "vecnormalize"): (
        "agent.normalisation.observations",
    ),
}
"""Words -> keys that may be meant, the likeliest first."""

_BY_WORD = {word: keys for words, keys in SETTINGS.items() for word in words}


def meant(key: str, known: Iterable[str]) -> list[str]:
    """Returns the keys in `known` that a word of another project may mean, at most three.

    Those of the section that `key` names are preferred. Keys and words may be written with hyphens.
    """
    section, _, word = key.lower().replace("-", "_").rpartition(".")
    asked = _BY_WORD.get(word, ())
    by_key = {other.replace("-", "_"): other for other in known}
    found = [by_key[other] for other in asked if other in by_key]
    inside = [other for other in found if section and other.startswith(section)]
    return (inside or found)[:3]
