# Copyright (c) hybridlab.platform contributors
# GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
driver = sqlite
connect = /srv/passwords/passwords.sqlite
password_query = SELECT address AS user, hash AS password FROM passwords WHERE address = '%u' AND active = 1
