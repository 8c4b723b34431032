-- Copyright (c) hybridlab.platform contributors
-- GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- The platform's own rules, as its part of the configuration (rspamd.conf.local) asks for them.

package.path = "/etc/rspamd/?.lua;" .. package.path
local options = rspamd_config:get_all_opt("platform") or {}
-- Read here, since a map cannot be made later.
require "platform/sign"
require "platform/forged"
if options.antivirus then require "platform/antivirus" end
if options.gtube == "file" then require "platform/gtube" end
