#!/usr/bin/env node
console.error('softvt: see softvt --help');
