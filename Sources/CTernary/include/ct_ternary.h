#pragma once
int ct_version(void);
