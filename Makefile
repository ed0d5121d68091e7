# The two commands of the README, and nothing else. Each makes .venv when it is missing or the dependencies changed.

.PHONY: demo test clean

demo: .venv/installed-train
	.venv/bin/inspector demo

test: .venv/installed-train-dev
	./check --all

.venv/installed-train: pyproject.toml .ci/install.py
	python3 .ci/install.py train
	touch $@

.venv/installed-train-dev: pyproject.toml .ci/install.py
	python3 .ci/install.py train dev
	touch $@ .venv/installed-train

clean:
	rm -rf .venv
