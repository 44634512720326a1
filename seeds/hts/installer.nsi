; Installer of one build. build.py puts this beside config.nsh (names and texts, from builds.yaml) and app\.
; Silent: SETUP.exe /S and uninstall.exe /S.

!include "config.nsh"
Unicode true
Target ${TARGET}
!include "MUI2.nsh"

SetCompressor /SOLID lzma
; Installed files get the times that build.py set, not those of the installation.
SetDateSave on
SetOverwrite on
RequestExecutionLevel admin

Name "${TITLE} ${VERSION}"
OutFile "${INSTALLER}"
InstallDir "${PROGRAM_FILES}\${PRODUCT}"
BrandingText "${COMPANY}"
ShowInstDetails show

!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\${PRODUCT}"
!define MUI_ICON "app.ico"
!define MUI_UNICON "app.ico"
!define MUI_FINISHPAGE_RUN "$INSTDIR\${MAIN}"
!define MUI_FINISHPAGE_RUN_TEXT "${TITLE} 실행"

!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "Korean"

VIProductVersion "${VERSION}.0"
VIAddVersionKey /LANG=${LANG_KOREAN} "CompanyName" "${COMPANY}"
VIAddVersionKey /LANG=${LANG_KOREAN} "ProductName" "${TITLE}"
VIAddVersionKey /LANG=${LANG_KOREAN} "FileDescription" "${TITLE} 설치 프로그램"
VIAddVersionKey /LANG=${LANG_KOREAN} "FileVersion" "${VERSION}"
VIAddVersionKey /LANG=${LANG_KOREAN} "ProductVersion" "${VERSION}"
VIAddVersionKey /LANG=${LANG_KOREAN} "LegalCopyright" "${COPYRIGHT}"

; makensis then makes the uninstaller now and embeds it whole: its bytes are known before it is installed.
!uninstfinalize 'cp "%1" "uninstall.exe"'

Section "program"
  SetRegView ${REGISTRY_BITS}
  SetShellVarContext all
  SetOutPath "$INSTDIR"
  ; The updater and the logs work in the install folder, for ordinary users too (S-1-5-32-545 is "Users").
  nsExec::Exec '"$SYSDIR\icacls.exe" "$INSTDIR" /grant *S-1-5-32-545:(OI)(CI)M'
  Pop $0
  File "app\${MAIN}"
  File "app\${CORE}"
  File "app\${COMM}"
  File "app\${UPDATER}"
  File "app\hts.ini"
  File "app\modules.txt"
  File "app\symbols.txt"
  WriteUninstaller "$INSTDIR\uninstall.exe"

  CreateDirectory "$SMPROGRAMS\${COMPANY}"
  CreateShortcut "$SMPROGRAMS\${COMPANY}\${TITLE}.lnk" "$INSTDIR\${MAIN}"
  CreateShortcut "$DESKTOP\${TITLE}.lnk" "$INSTDIR\${MAIN}"

  WriteRegStr HKLM "${UNINSTALL_KEY}" "DisplayName" "${TITLE}"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "Publisher" "${COMPANY}"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKLM "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKLM "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
SectionEnd

Section "Uninstall"
  SetRegView ${REGISTRY_BITS}
  SetShellVarContext all
  Delete "$INSTDIR\${MAIN}"
  Delete "$INSTDIR\${CORE}"
  Delete "$INSTDIR\${COMM}"
  Delete "$INSTDIR\${UPDATER}"
  Delete "$INSTDIR\hts.ini"
  Delete "$INSTDIR\modules.txt"
  Delete "$INSTDIR\symbols.txt"
  Delete "$INSTDIR\logs\hts.log"
  Delete "$INSTDIR\logs\update.log"
  RMDir "$INSTDIR\logs"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\${COMPANY}\${TITLE}.lnk"
  RMDir "$SMPROGRAMS\${COMPANY}"
  Delete "$DESKTOP\${TITLE}.lnk"
  DeleteRegKey HKLM "${UNINSTALL_KEY}"
SectionEnd
