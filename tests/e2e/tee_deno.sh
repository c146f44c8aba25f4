#!/usr/bin/env bash
# Stands for Deno (STATEBACKED_DENO): keeps a copy of every frame to and from the worker in $TEE_FOLDER.
name="$TEE_FOLDER/$$"
tee "$name.in" | "$TEE_DENO" "$@" | tee "$name.out"
