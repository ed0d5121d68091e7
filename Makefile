# The two commands of the README, and nothing else. Each makes .venv when it is missing or the dependencies changed.

PYTHON ?= python3

.PHONY: demo test clean

demo: .venv/installed-train
	.venv/bin/inspector demo

test: .venv/installed-train-dev
	./check --all

.venv/installed-train: pyproject.toml .ci/install.py
	$(PYTHON) .ci/install.py train
	touch $@

.venv/installed-train-dev: pyproject.toml .ci/install.py
	$(PYTHON) .ci/install.py train dev plc opcua mqtt s7 ethernet-ip
	touch $@ .venv/installed-train

clean:
	rm -rf .venv
